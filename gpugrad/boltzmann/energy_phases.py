"""The two phases of a likelihood gradient for machines of a user's own energy, by autodiff."""

from collections.abc import Mapping
from typing import Any

from gpugrad.backend.array_module import get_array_module, on
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import chains
from gpugrad.boltzmann.energy_machine import EnergyMachine
from gpugrad.boltzmann.gradient_provider import GradientProvider
from gpugrad.boltzmann.phases import add_penalties_
from gpugrad.boltzmann.samplers import gibbs
from gpugrad.boltzmann.state import State
from gpugrad.errors import ParameterError
from gpugrad.ops.creation import tensor

__all__ = ["EnergyPhases"]

LISTED = 1024
"""Hidden states up to which both phases are free energies, with all of them listed."""

SETTLING = 10
"""Gibbs sweeps, at least, of hidden units that are not listed, given the data."""


class EnergyPhases(GradientProvider):
    """Gradients of the negative log-likelihood of an `EnergyMachine`.

    With at most 1,024 joint hidden states both phases are derivatives of free energies, the hidden
    units summed out. With more, hidden units given the data are at their means where the machine is
    drawn by layers and has two, and else drawn by max(k, 10) Gibbs sweeps that start at random.

    Parameters
    ----------
    model : EnergyMachine
    rng : Generator
        Every draw comes from it.
    method : {"pcd", "cd"}
    k : int
        Gibbs sweeps a gradient, where no sampler is given.
    n_chains, max_batch : int
    sampler : Step, optional
        In place of k sweeps of Gibbs sampling ("pcd" only).
    offsets, centering_rate, autodiff
        Not looked at: there is no centred form of an energy that is not bilinear, and every
        gradient comes from autodiff.
    sparsity : None

    Raises
    ------
    ParameterError
        Another method, or a sparsity target.
    """

    offsets = None

    def __init__(
        self,
        model: EnergyMachine,
        rng: Generator,
        *,
        method: str = "pcd",
        k: int = 1,
        n_chains: int = 100,
        max_batch: int = 100,
        sampler: Any = None,
        autodiff: bool = True,
        offsets: Any = None,
        centering_rate: float = 0.0,
        sparsity: None = None,
    ) -> None:
        if method not in ("pcd", "cd") or sparsity is not None:
            raise ParameterError(
                f"fit: method is {method!r} and sparsity {sparsity!r} for {model!r}, expected "
                "'pcd' or 'cd', and None"
            )
        self.model: Any = model
        self.rng, self.method, self.k = rng, method, k
        self.n_chains = max_batch if method == "cd" else n_chains
        self._step: Any = gibbs(k) if sampler is None else sampler
        self.listed = model.hidden_states() <= LISTED
        machine: Any = model
        with on(model.device):
            xp = get_array_module(model.terms.params[0])
            self.batch = xp.zeros((max_batch, model.layers[0].num_units), dtype=model.dtype)
            self.state: Any = None
            if method == "pcd":
                self.state = chains.start(sampler, rng, machine, n_chains)

    def __call__(self, n: int, sample_weight: Any = None) -> Mapping[str, Any]:
        model, data = self.model, self.batch[:n]
        positive = self.positive(data)
        negative = self._negative(positive, n)
        xp = get_array_module(data)
        count = negative.num_samples
        w = xp.full(n + count, -1.0 / count, dtype=model.dtype)
        w[:n] = 1.0 / n if sample_weight is None else sample_weight
        if self.listed:
            states = State((xp.concatenate([data, negative.visible]),))
        else:
            both = zip(positive, negative, strict=True)
            states = State(tuple(xp.concatenate(pair) for pair in both))
        return self.finish(self._differentiate(states, w))

    def _differentiate(self, states: State, w: Any) -> dict[str, Any]:
        """Gradient of the sum over states of w times their energy, or free energy, if listed."""
        model = self.model
        xp = get_array_module(w)
        tensors = {name: tensor(p, copy=False) for name, p in model.parameters().items()}
        if self.listed:
            values = model.free_energy(states.visible, tensors)
        else:
            values = model.energy(states, tensors)
        (values * w).sum().backward()
        return {
            name: xp.zeros_like(t.data) if t.grad is None else t.grad for name, t in tensors.items()
        }

    # ---- a gradient in parts, for those who add up many (`sharded`)

    def data_term(self, positive: State, sample_weight: Any = None) -> Mapping[str, Any]:
        """What the positive phase gives to the gradient; `sample_weight` as in a call."""
        n = positive.num_samples
        if sample_weight is None:
            xp = get_array_module(positive.visible)
            sample_weight = xp.full(n, 1.0 / n, dtype=self.model.dtype)
        return self._differentiate(positive, sample_weight)

    def model_term(self, positive: State, n: int) -> Mapping[str, Any]:
        """Move the chains on; what they give to the gradient."""
        return self.data_term(self._negative(positive, n))

    def finish(self, difference: dict[str, Any]) -> dict[str, Any]:
        """The gradient, from data terms less model terms, which it overwrites."""
        add_penalties_(self.model, difference)
        return difference

    # ---- the states of both phases

    def positive(self, v: Any) -> State:
        """Data, (n, num_visible), with hidden units at their means or drawn, if anybody looks."""
        if self.listed and self.method == "pcd":
            return State((v,))
        model = self.model
        state = model.random_state(len(v), rng=self.rng).replace(0, v)
        if model.num_layers == 1:
            return state
        if model.by == "layers" and model.num_layers == 2:
            return model.expected(state)
        for _ in range(max(self.k, SETTLING)):
            state = model.gibbs_sweep(self.rng, state, masks={0: True})
        return state

    def _negative(self, positive: State, n: int) -> State:
        start = self.state
        if self.method == "cd":
            # hidden units drawn given the data, as contrastive divergence starts
            start = self.model.gibbs_sweep(self.rng, positive, masks={0: True})
            self.n_chains = n
        new, expected = chains.advance(self._step, self.rng, self.model, start, self.n_chains)
        if self.method == "pcd":
            self.state = new
        return expected

    # ---- what a checkpoint holds

    def arrays(self) -> dict[str, Any]:
        """Persistent chains by name; live, not copied."""
        return chains.save(self.state)

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        if self.state is not None:
            self.state = chains.load(self.model, self.state, arrays, self.n_chains)

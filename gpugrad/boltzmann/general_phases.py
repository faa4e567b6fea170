"""The two phases of a likelihood gradient for any machine: any units, any number of layers.

    positive   visible units clamped to data, hidden units at their means: exact ones with two
               layers, the mean-field answer (`BoltzmannMachine.mean_field`) with more
    negative   chains of any sampler, odd layers at their conditional means (`info.expected`)

The gradient of the negative log-likelihood is the difference of the energy's derivatives
(`BoltzmannMachine.gradient`), or, with two layers, of the free energies by back-propagation. With
more than two layers the mean-field answer makes it the gradient of a lower bound of the likelihood.

References
----------
Salakhutdinov and Hinton, "Deep Boltzmann machines", AISTATS 2009.
"""

from collections.abc import Mapping
from typing import Any

from gpugrad.backend.array_module import get_array_module, on
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import chains
from gpugrad.boltzmann.centering import Centering, centre_gradient_
from gpugrad.boltzmann.energy_gradient import finished, phase
from gpugrad.boltzmann.gradient_provider import GradientProvider
from gpugrad.boltzmann.gradient_util import from_named_arrays, named_arrays
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.phases import (
    add_penalties_,
    autodiff_gradient,
    load_offsets,
    save_offsets,
)
from gpugrad.boltzmann.samplers import Step, gibbs
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.state import State, positive_int
from gpugrad.errors import ParameterError

__all__ = ["GeneralPhases"]


class GeneralPhases(GradientProvider):
    """Gradients of the negative log-likelihood of any machine.

    Parameters
    ----------
    model : BoltzmannMachine
    rng : Generator
        Every draw is reserved from it, in a fixed order.
    method : {"pcd", "cd"}
        Persistent chains, or chains that start anew from the data of each batch.
    k : int
        Gibbs sweeps a gradient, where no sampler is given.
    n_chains : int
        Persistent chains; with "cd" each batch has as many chains as samples.
    max_batch : int
    sampler : Step, optional
        In place of k sweeps of block Gibbs ("pcd" only).
    autodiff : bool
        Differentiate the free energies (two layers only).
    offsets : list of array (num_units,), optional
        Of all layers, for the centred gradient; they are moved in place.
    centering_rate : float
    sparsity : SparsityTarget, optional
    mean_field_steps : int
        Updates of all hidden layers for the positive phase of more than two layers.

    Raises
    ------
    ParameterError
        Back-propagation for a machine whose hidden units cannot be summed out, or a sampler of
        another shape.
    """

    def __init__(
        self,
        model: BoltzmannMachine,
        rng: Generator,
        *,
        method: str = "pcd",
        k: int = 1,
        n_chains: int = 100,
        max_batch: int = 100,
        sampler: Step | None = None,
        autodiff: bool = False,
        offsets: list[Any] | None = None,
        centering_rate: float = 0.01,
        sparsity: SparsityTarget | None = None,
        mean_field_steps: int = 10,
    ) -> None:
        if autodiff and set(model.parameters()) != _summed_out(model):
            raise ParameterError(
                f"fit: gradient is 'autodiff' for {model!r}, expected two layers without couplings "
                "inside: with others the hidden units cannot be summed out"
            )
        self.model, self.rng = model, rng
        self.method, self.k, self.sampler, self.autodiff = method, k, sampler, autodiff
        self.n_chains = max_batch if method == "cd" else n_chains
        self.centering_rate, self.sparsity = centering_rate, sparsity
        self.mean_field_steps = positive_int("fit", "mean_field_steps", mean_field_steps)
        self.centering: Centering | None = None
        if offsets is not None:
            self.centering = Centering(*offsets, rate=centering_rate)
        # the state belongs to this object alone, so that Gibbs may write over it
        self._step = gibbs(k, donate=True) if sampler is None else sampler
        with on(model.device):
            xp = get_array_module(model.layers[0].params[0])
            self.batch = xp.zeros((max_batch, model.layers[0].num_units), dtype=model.dtype)
            self.state: Any = None
            if method != "cd":
                self.state = chains.start(sampler, rng, model, n_chains)

    @property
    def offsets(self) -> list[Any] | None:
        """Offsets of all layers, or None for the plain gradient."""
        return None if self.centering is None else self.centering.offsets

    def __call__(self, n: int, sample_weight: Any = None) -> Mapping[str, Any]:
        positive = self.positive(self.batch[:n])
        negative = self._negative(positive, n)
        if self.centering is not None:
            # the couplings, and with them the offsets, see rescaled units
            seen = [x.rescale(u) for x, u in zip(self.model.layers, positive, strict=True)]
            self.centering.update(State(tuple(seen)), sample_weight=sample_weight)
        if self.autodiff:
            gradient = self._back_propagate(positive.visible, negative.visible, sample_weight)
        else:
            found = self.model.gradient(
                positive, negative, sample_weight=sample_weight, offsets=self.offsets
            )
            gradient = dict(named_arrays(found))
        if self.sparsity is not None:
            self.sparsity.add_gradient_(self.model, gradient, positive, sample_weight)
        return gradient

    # ---- the states of both phases

    def positive(self, v: Any) -> State:
        """The positive phase of data, (n, num_visible)."""
        model = self.model
        if model.num_layers <= 2 and 1 not in model.lateral:
            return model.data_state(v)
        # no test of convergence: it would wait for the device
        found = model.mean_field(v, tolerance=0, max_steps=self.mean_field_steps)
        state = State(found.units)
        for i in range(2, model.num_layers, 2):
            # Gaussian units have an energy that is not linear in them, and the negative phase has
            # samples in the even layers: here too, drawn from the mean-field distribution
            if "log_var" in model.layers[i].params._fields:
                state = state.replace(i, self._draw(i, state))
        return state

    def _draw(self, i: int, means: State) -> Any:
        """A layer drawn from the mean-field distribution."""
        return self.model.layers[i].draw(self.model.local_field(i, means), rng=self.rng)[0]

    def _negative(self, positive: State, n: int) -> State:
        model, rng = self.model, self.rng
        if self.method != "cd":
            self.state, expected = chains.advance(self._step, rng, model, self.state, self.n_chains)
            return expected
        units = [positive.visible.copy(), *positive.units[1:]]
        for i in range(1, model.num_layers, 2):
            units[i] = self._draw(i, positive)
        for i in range(2, model.num_layers, 2):
            units[i] = units[i].copy()
        _, expected = chains.advance(self._step, rng, model, State(tuple(units)), n)
        return expected

    # ---- a gradient in parts, for those who add up many (`sharded`)

    def data_term(self, positive: State, sample_weight: Any = None) -> Mapping[str, Any]:
        """What the positive phase gives to the gradient; `sample_weight` as in a call."""
        return self._term(positive, sample_weight, positive=True)

    def model_term(self, positive: State, n: int) -> Mapping[str, Any]:
        """Move the chains on; what they give to the gradient."""
        return self._term(self._negative(positive, n), None, positive=False)

    def _term(self, state: State, sample_weight: Any, *, positive: bool) -> dict[str, Any]:
        model = self.model
        if self.autodiff:
            xp, n = get_array_module(state.visible), state.num_samples
            equal = xp.full(n, 1.0 / n, dtype=model.dtype)
            w = equal if sample_weight is None else sample_weight
            return autodiff_gradient(model, state.visible, w)
        how: dict[str, Any] = {"sample_weight": sample_weight, "offsets": self.offsets}
        return dict(named_arrays(phase(model, state, positive=positive, **how)))

    def finish(self, difference: Mapping[str, Any]) -> Mapping[str, Any]:
        """The gradient, from data terms less model terms, which it overwrites."""
        if not self.autodiff:
            found = from_named_arrays(self.model, difference)
            return dict(named_arrays(finished(self.model, found, self.offsets)))
        if self.offsets is not None:
            centre_gradient_(self.model, difference, self.offsets)
        add_penalties_(self.model, difference)
        return difference

    # ---- back-propagation

    def _back_propagate(self, data: Any, v: Any, sample_weight: Any) -> Mapping[str, Any]:
        model = self.model
        xp = get_array_module(data)
        w = xp.full(data.shape[0] + v.shape[0], -1.0 / v.shape[0], dtype=model.dtype)
        w[: data.shape[0]] = 1.0 / data.shape[0] if sample_weight is None else sample_weight
        return self.finish(autodiff_gradient(model, xp.concatenate([data, v]), w))

    # ---- what a checkpoint holds

    def arrays(self) -> dict[str, Any]:
        """Offsets and persistent chains by name; live, not copied."""
        return save_offsets(self.offsets) | chains.save(self.state)

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        offsets = load_offsets(self.offsets, arrays)
        if self.state is not None:
            self.state = chains.load(self.model, self.state, arrays, self.n_chains)
        for own, array in zip(self.offsets or (), offsets, strict=True):
            own[...] = array


def _summed_out(model: BoltzmannMachine) -> set[str]:
    """Names of the parameters that the free energy of a two-layer machine is a function of."""
    names = {
        f"layers.{i}.{name}"
        for i, layer in enumerate(model.layers[:2])
        for name in layer.params._fields
    }
    return names | {"weights.0.matrix"}

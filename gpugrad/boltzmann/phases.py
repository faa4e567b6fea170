"""The two phases of a likelihood gradient, in memory that is set up once.

Both phases lie in one array a layer, so that the gradient of the weights is one matrix product:

    rows                    V                       H
    0 ... C-1               chains                  means given the chains
    C                       mu                      (see below)
    C+1 ... C+n             data                    means given the data

With weights w of 1/C on the chains and -1/n on the data, the centred gradient is

    sum_r w_r (v_r - mu)(h_r - lam)^T = sum_r w_r v_r (h_r - lam)^T - mu (sum_r w_r h_r)^T

so that row C, holding mu and minus the last factor, centres V at no cost. The biases follow as in
`centering`. Everything is queued on the device that the parameters live on; nothing waits for it.
"""

from collections.abc import Mapping
from typing import Any

from gpugrad.backend.array_module import device_of, get_array_module, on, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann import chains
from gpugrad.boltzmann.centering import centre_gradient_
from gpugrad.boltzmann.gradient_provider import GradientProvider
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.samplers import Step
from gpugrad.boltzmann.sparsity import SparsityTarget
from gpugrad.boltzmann.state import State
from gpugrad.errors import CheckpointError, ParameterError
from gpugrad.ops.creation import tensor

__all__ = [
    "Phases",
    "add_penalties_",
    "autodiff_gradient",
    "covers",
    "load_offsets",
    "save_offsets",
]


def covers(model: BoltzmannMachine) -> bool:
    """Whether `Phases` knows all of a machine: two layers of two-valued units and one coupling."""
    names = {"layers.0.loc", "layers.1.loc", "weights.0.matrix"}
    return (
        model.num_layers == 2
        and all(isinstance(x, SpinLayer) for x in model.layers)
        and set(model.parameters()) == names
    )


def add_penalties_(model: BoltzmannMachine, gradient: Mapping[str, Any]) -> None:
    """Add the gradients of all penalties to a gradient by name, in place."""
    for name, part in model.parts():
        for field in part.penalties:
            array = gradient[f"{name}.{field}"]
            array[...] = part.get_penalty_grad(array, field)


def save_offsets(offsets: list[Any] | None) -> dict[str, Any]:
    """The offsets by name, for a checkpoint; live, not copied."""
    return {f"offsets.{i}": array for i, array in enumerate(offsets or ())}


def load_offsets(offsets: list[Any] | None, arrays: Mapping[str, Any]) -> list[Any]:
    """The offsets of a checkpoint, checked against the present ones, on their device.

    Raises
    ------
    CheckpointError
        One is missing or has another shape.
    """
    found = []
    for i, own in enumerate(offsets or ()):
        array = arrays.get(f"offsets.{i}")
        if array is None or tuple(array.shape) != tuple(own.shape):
            raise CheckpointError(f"fit: the checkpoint lacks offsets.{i} of shape {own.shape}")
        found.append(to_device(array, device_of(own)))
    return found


def autodiff_gradient(model: BoltzmannMachine, v: Any, weights: Any) -> dict[str, Any]:
    """Gradient of sum_r w_r F(v_r) by back-propagation, by name of the parameter.

    With weights 1/n on n samples of the data and -1/C on C chains this is the gradient of
    `free_energy_difference`, in one product each way for both phases.

    Parameters
    ----------
    model : BoltzmannMachine
    v : array (num_samples, num_visible)
    weights : array (num_samples,)
    """
    parameters = {name: tensor(p, copy=False) for name, p in model.parameters().items()}
    (model.free_energy(parameters, v) * weights).sum().backward()
    return {name: parameter.grad for name, parameter in parameters.items()}


class Phases(GradientProvider):
    """Gradients of the negative log-likelihood of a two-layer machine of two-valued units.

    Parameters
    ----------
    model : BoltzmannMachine
    rng : Generator
        Every draw is reserved from it, in a fixed order.
    method : {"pcd", "cd"}
        Persistent chains, or chains that start anew from the hidden units of the data.
    k : int
        Gibbs sweeps a gradient.
    n_chains : int
        Persistent chains; with "cd" each batch has as many chains as samples.
    max_batch : int
    sampler : Step, optional
        In place of k sweeps of block Gibbs ("pcd" only).
    autodiff : bool
        Differentiate the free energies instead of using their derivatives.
    offsets : list of array, optional
        mu and lam of the centred gradient; they are moved in place.
    centering_rate : float
    sparsity : SparsityTarget, optional
        Held by the positive phase.

    Raises
    ------
    ParameterError
        A machine that these formulas do not cover, or a sampler of another shape.
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
    ) -> None:
        if not covers(model):
            raise ParameterError(
                f"Phases: {model!r}, expected two layers of Bernoulli or Ising units"
            )
        self.model, self.rng = model, rng
        self.method, self.k, self.sampler, self.autodiff = method, k, sampler, autodiff
        self.n_chains = max_batch if method == "cd" else n_chains
        self.offsets, self.centering_rate = offsets, centering_rate
        self.sparsity = sparsity
        with on(model.device):
            xp = self.xp = get_array_module(model.weights[0].W())
            rows = self.n_chains + 1 + max_batch
            # zeros, not empty: rows that a short batch leaves unused must not hold a nan
            self.V, self.H = (
                xp.zeros((rows, layer.num_units), dtype=model.dtype) for layer in model.layers
            )
            self.gradient = {name: xp.empty_like(p) for name, p in model.parameters().items()}
            self.hidden: Any = None
            self.state: Any = None
            if sampler is not None:
                self.state = chains.start(sampler, rng, model, self.n_chains)
            elif method != "cd":
                self.hidden = self._first_chains()
        self._weights: dict[tuple[int, int], Any] = {}

    def _first_chains(self) -> Any:
        """Hidden units of the persistent chains, as if they had no neighbours."""
        layer = self.model.layers[1]
        return layer.random((self.n_chains, layer.num_units), rng=self.rng)

    def data_rows(self, n: int) -> Any:
        first = self.n_chains + 1
        return self.V[first : first + n]

    def _equal_weights(self, count: int, n: int) -> Any:
        """1/count on the chains, 0, -1/n on the data; made once for each size of batch."""
        if (count, n) not in self._weights:
            w = self.xp.zeros(count + 1 + n, dtype=self.model.dtype)
            w[:count] = 1.0 / count
            w[count + 1 :] = -1.0 / n
            self._weights[count, n] = w
        return self._weights[count, n]

    def __call__(self, n: int, sample_weight: Any = None) -> Mapping[str, Any]:
        count = n if self.method == "cd" else self.n_chains
        rows = slice(self.n_chains - count, self.n_chains + 1 + n)
        V, H = self.V[rows], self.H[rows]
        if self.sampler is not None:
            self._chains_by_sampler(V[:count])
        self._fill(V, H, count)
        w = self._equal_weights(count, n)
        if sample_weight is not None:
            w = w.copy()
            w[count + 1 :] = -sample_weight
        self._differentiate(V, H, w, count)
        add_penalties_(self.model, self.gradient)
        if self.sparsity is not None:
            data = State((V[count + 1 :], None))
            self.sparsity.add_gradient_(self.model, self.gradient, data, sample_weight)
        return self.gradient

    # ---- what a checkpoint holds

    def arrays(self) -> dict[str, Any]:
        """Offsets and persistent chains by name; live, not copied."""
        return save_offsets(self.offsets) | chains.save(self._persistent())

    def _persistent(self) -> Any:
        if self.method == "cd":
            return None
        return State((None, self.hidden)) if self.sampler is None else self.state

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        offsets = load_offsets(self.offsets, arrays)
        state = self._persistent()
        if state is not None:
            state = chains.load(self.model, state, arrays, self.n_chains)
        for own, array in zip(self.offsets or (), offsets, strict=True):
            own[...] = array
        if self.sampler is not None:
            self.state = state
        elif state is not None:
            self.hidden = state.hidden

    # ---- the states of both phases

    def _fill(self, V: Any, H: Any, count: int) -> None:
        """Advance the chains into V, and put the hidden means of both phases into H."""
        matmul, rng = self.xp.matmul, self.rng
        visible, hidden = self.model.layers
        W = self.model.weights[0].W()
        data = slice(count + 1, None)
        if self.method == "cd":
            matmul(V[data], W, out=H[data])
            h = self.hidden = hidden.draw(H[data], rng=rng, mean=True, out=(None, H[data]))[0]
        else:
            h = self.hidden
        sweeps = 0 if self.sampler is not None else self.k
        for sweep in range(sweeps):
            matmul(h, W.T, out=V[:count])
            visible.draw(V[:count], rng=rng, out=V[:count])
            if sweep < sweeps - 1:
                matmul(V[:count], W, out=h)
                hidden.draw(h, rng=rng, out=h)
        if self.method == "cd":
            matmul(V[:count], W, out=H[:count])
            hidden.draw(H[:count], sample=False, mean=True, out=H[:count])
            return
        matmul(V, W, out=H)
        hidden.draw(H[data], sample=False, mean=True, out=H[data])
        if self.sampler is None:
            hidden.draw(H[:count], rng=rng, mean=True, out=(h, H[:count]))
        else:
            hidden.draw(H[:count], sample=False, mean=True, out=H[:count])

    def _chains_by_sampler(self, v: Any) -> None:
        self.state, expected = chains.advance(
            self.sampler, self.rng, self.model, self.state, self.n_chains
        )
        v[...] = expected.visible

    # ---- their gradient

    def _differentiate(self, V: Any, H: Any, w: Any, count: int) -> None:
        """Write the gradient; H is used up."""
        xp = self.xp
        g_visible, g_hidden, g_weights = self.gradient.values()
        data = slice(count + 1, None)
        if self.offsets is not None:
            mu, lam = self.offsets
            for offset, units in ((mu, V), (lam, H)):
                offset *= 1 - self.centering_rate
                offset -= self.centering_rate * xp.matmul(w[data], units[data])
        if self.autodiff:
            self._back_propagate(V, w, count)
            return
        # the row of mu has no part in these sums: w is 0 there
        xp.matmul(w, V, out=g_visible)
        xp.matmul(w, H, out=g_hidden)
        if self.offsets is not None:
            H -= lam
        H *= w[:, None]
        if self.offsets is not None:
            V[count] = mu
            xp.negative(g_hidden, out=H[count])
        xp.matmul(V.T, H, out=g_weights)
        if self.offsets is not None:
            g_visible -= xp.matmul(g_weights, lam)
            g_hidden -= xp.matmul(mu, g_weights)

    def _back_propagate(self, V: Any, w: Any, count: int) -> None:
        V[count] = V[0]  # any states will do in the row of mu: its weight is 0
        found = autodiff_gradient(self.model, V, -w)
        for name, array in found.items():
            self.gradient[name][...] = array
        if self.offsets is not None:
            centre_gradient_(self.model, self.gradient, self.offsets)

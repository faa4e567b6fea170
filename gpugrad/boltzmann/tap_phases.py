"""Training by the TAP free energy: the negative phase is taken at its minima, without samples.

The log-likelihood of data is estimated by -<F(v)> + Gamma(m*). Its gradient needs no derivative of
m*, where Gamma is stationary:

    positive   dF/dtheta at the data: hidden units at their means given v, exact for two layers;
               for more, dGamma/dtheta with the visible units clamped, after a few sweeps
    negative   dGamma/dtheta, averaged over the minima that persistent and random seeds reach

A persistent seed goes on from where it was after the last update and needs a few sweeps to follow
the parameters; a random one starts anew each time and needs more.

Both phases lie in one array a layer, so that one product serves both:

    rows  0 ... S-1  seeds, persistent ones first      S ... S+n-1  data

References
----------
Gabrie, Tramel and Krzakala, "Training restricted Boltzmann machines via the
Thouless-Anderson-Palmer free energy", NIPS 2015.
"""

from collections.abc import Mapping
from typing import Any

from gpugrad.backend.array_module import get_array_module, on, to_device
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.centering import centre_gradient_
from gpugrad.boltzmann.gradient_provider import GradientProvider
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.phases import add_penalties_, save_offsets
from gpugrad.boltzmann.state import State, positive_int
from gpugrad.boltzmann.tap import tap_free_energy
from gpugrad.boltzmann.tap_sweeps import TapSweeps, check_machine, clamped_units
from gpugrad.errors import CheckpointError, ParameterError
from gpugrad.ops.creation import tensor
from gpugrad.primitives.gibbs import wide_type
from gpugrad.primitives.tap import cumulants

__all__ = ["TapPhases"]

EPS = 1e-6
"""How far seeds are kept from the states of the units."""


class TapPhases(GradientProvider):
    """Gradients of the negative TAP log-likelihood, for layers of Bernoulli and Ising units.

    Parameters
    ----------
    model : BoltzmannMachine
        Of two or more layers; float32 or float64.
    rng : Generator
        Source of the seeds.
    order : {2, 3}
        Of the free energy.
    k : int
        Sweeps over all layers a gradient.
    damping : float
        In [0, 1): the part of a magnetisation that a sweep leaves.
    n_chains : int
        Persistent seeds; may be 0 where there are random ones.
    n_random : int
        Seeds that are drawn anew for each gradient.
    burn_in : int
        Sweeps of the random seeds before the k of all.
    mean_field_steps : int
        Sweeps of the clamped hidden units, for more than two layers.
    max_batch : int
    autodiff : bool
        Differentiate the free energies in place of using their derivatives.
    offsets : list of array (num_units,), optional
        Of all layers, for the centred gradient; they are moved in place.
    centering_rate : float
    sparsity : SparsityTarget, optional
    sampler : None
        There are no samples.

    Raises
    ------
    ParameterError
        For other units, half precision, or settings out of range.
    """

    method = "tap"

    def __init__(
        self,
        model: BoltzmannMachine,
        rng: Generator,
        *,
        order: int = 2,
        k: int = 3,
        damping: float = 0.5,
        n_chains: int = 100,
        n_random: int = 0,
        burn_in: int = 30,
        mean_field_steps: int = 10,
        max_batch: int = 100,
        autodiff: bool = False,
        offsets: list[Any] | None = None,
        centering_rate: float = 0.01,
        sparsity: Any = None,
        sampler: None = None,
    ) -> None:
        check_machine("TapPhases", model, order)
        if wide_type(model.dtype) != model.dtype:
            raise ParameterError(f"TapPhases: {model!r}, expected float32 or float64")
        if sampler is not None:
            raise ParameterError(f"TapPhases: sampler is {sampler!r}, expected None: nothing moves")
        if not 0 <= damping < 1:
            raise ParameterError(f"TapPhases: damping is {damping!r}, expected a number in [0, 1)")
        if n_chains or not n_random:
            n_chains = positive_int("TapPhases", "n_chains", n_chains)
        if n_random:
            n_random = positive_int("TapPhases", "n_random", n_random)
        self.model, self.rng, self.order = model, rng, order
        self.k, self.damping = positive_int("TapPhases", "k", k), float(damping)
        self.n_chains, self.n_random = n_chains, n_random
        self.burn_in = positive_int("TapPhases", "burn_in", burn_in)
        self.mean_field_steps = positive_int("TapPhases", "mean_field_steps", mean_field_steps)
        self.autodiff, self.sparsity = autodiff, sparsity
        self.offsets, self.centering_rate = offsets, centering_rate
        self.n_seeds = n_chains + n_random
        with on(model.device):
            xp = self.xp = get_array_module(model.weights[0].W())
            rows = self.n_seeds + positive_int("TapPhases", "max_batch", max_batch)
            self.units = [
                xp.zeros((rows, layer.num_units), dtype=model.dtype) for layer in model.layers
            ]
            self.gradient = {name: xp.empty_like(p) for name, p in model.parameters().items()}
            self._scatter(slice(0, n_chains))
        self.seeds = TapSweeps(model, [m[: self.n_seeds] for m in self.units], order=order)

    def _scatter(self, rows: slice) -> None:
        """Fill these rows with new random magnetisations."""
        count = rows.stop - rows.start
        layers: list[Any] = self.model.layers
        for layer, m in zip(layers, self.units, strict=True):
            if count:
                drawn = layer.get_random_magnetization(rng=self.rng, num_samples=count, eps=EPS)
                m[rows] = drawn.expectation()

    def data_rows(self, n: int) -> Any:
        return self.units[0][self.n_seeds : self.n_seeds + n]

    def __call__(self, n: int, sample_weight: Any = None) -> Mapping[str, Any]:
        xp, seeds = self.xp, self.n_seeds
        self._move_seeds()
        self._fill_data(n)
        units = [m[: seeds + n] for m in self.units]
        w = xp.full(seeds + n, 1.0 / seeds, dtype=self.model.dtype)
        w[seeds:] = -1.0 / n if sample_weight is None else -sample_weight
        self._differentiate(units, w, seeds)
        if self.offsets is not None:
            self._move_offsets(units, w)
        self.finish(self.gradient)
        if self.sparsity is not None:
            positive = State(tuple(m[seeds:] for m in units))
            self.sparsity.add_gradient_(self.model, self.gradient, positive, sample_weight)
        return self.gradient

    # ---- a gradient in parts, for those who add up many (`sharded`)

    def positive(self, v: Any) -> State:
        """The positive phase of data, (n, num_visible)."""
        n = v.shape[0]
        self.data_rows(n)[...] = v
        self._fill_data(n)
        return State(tuple(m[self.n_seeds : self.n_seeds + n] for m in self.units))

    def data_term(self, positive: State, sample_weight: Any = None) -> Mapping[str, Any]:
        """What the positive phase gives to the gradient; `sample_weight` as in a call."""
        n = positive.num_samples
        equal = self.xp.full(n, -1.0 / n, dtype=self.model.dtype)
        w = equal if sample_weight is None else -sample_weight
        return self._differentiate(list(positive), w, 0)

    def model_term(self, positive: State, n: int) -> Mapping[str, Any]:
        """Move the seeds on; what they give to the gradient."""
        self._move_seeds()
        w = self.xp.full(self.n_seeds, -1.0 / self.n_seeds, dtype=self.model.dtype)
        return self._differentiate([m[: self.n_seeds] for m in self.units], w, self.n_seeds)

    def finish(self, difference: Mapping[str, Any]) -> Mapping[str, Any]:
        """The gradient, from data terms less model terms, which it overwrites."""
        if self.offsets is not None:
            centre_gradient_(self.model, difference, self.offsets)
        add_penalties_(self.model, difference)
        return difference

    # ---- the magnetisations of both phases

    def _move_seeds(self) -> None:
        if self.n_random:
            fresh = slice(self.n_chains, self.n_seeds)
            self._scatter(fresh)
            alone = TapSweeps(self.model, [m[fresh] for m in self.units], order=self.order)
            for _ in range(self.burn_in):
                alone.step(self.damping)
        for _ in range(self.k):
            self.seeds.step(self.damping)

    def _fill_data(self, n: int) -> None:
        """Hidden means given the data."""
        model = self.model
        rows = slice(self.n_seeds, self.n_seeds + n)
        v = self.units[0][rows]
        if model.num_layers == 2:
            field = self.xp.matmul(v, model.weights[0].W(), out=self.units[1][rows])
            model.layers[1].draw(field, sample=False, mean=True, out=field)
            return
        given = clamped_units(model, v)
        sweeps = TapSweeps(model, given, order=self.order, clamped=True)
        for _ in range(self.mean_field_steps):
            sweeps.step(self.damping)
        for m, found in zip(self.units[1:], given[1:], strict=True):
            m[rows] = found

    # ---- their gradient

    def _differentiate(self, units: list[Any], w: Any, seeds: int) -> Mapping[str, Any]:
        """Write sum over rows of -w dGamma/dtheta; the first rows are seeds, the others data.

        The visible units of data are clamped and have no higher cumulants.
        """
        if self.autodiff:
            return self._back_propagate(units, w, seeds)
        xp, model = self.xp, self.model
        moments = [
            cumulants(layer.layer_type, m, self.order)
            for layer, m in zip(model.layers, units, strict=True)
        ]
        for i, m in enumerate(units):
            xp.matmul(w, m, out=self.gradient[f"layers.{i}.loc"])
        column = w[:, None]
        for i, weights in enumerate(model.weights):
            W, g = weights.W(), self.gradient[f"weights.{i}.matrix"]
            rows = slice(0, seeds) if i == 0 else slice(None)
            lower, upper = ([x[rows] for x in moments[j]] for j in (i, i + 1))
            here = column[rows]
            xp.matmul(lower[1].T, upper[1] * here, out=g)
            if self.order == 3:
                third = xp.matmul(lower[2].T, upper[2] * (0.5 * here))
                third *= W
                g += third
            g *= W
            g += xp.matmul(moments[i][0].T, moments[i + 1][0] * column)
        return self.gradient

    def _back_propagate(self, units: list[Any], w: Any, seeds: int) -> Mapping[str, Any]:
        own = {name: tensor(p, copy=False) for name, p in self.model.parameters().items()}
        total: Any = 0.0
        for rows, clamped in ((slice(0, seeds), False), (slice(seeds, None), True)):
            if w[rows].shape[0]:
                part = [m[rows] for m in units]
                gamma = tap_free_energy(self.model, part, own, order=self.order, clamped=clamped)
                total = total - (gamma * w[rows]).sum()
        total.backward()
        for name, parameter in own.items():
            self.gradient[name][...] = parameter.grad
        return self.gradient

    def _move_offsets(self, units: list[Any], w: Any) -> None:
        """Part of the way to the means of the positive phase."""
        assert self.offsets is not None
        data = slice(self.n_seeds, None)
        for offset, m in zip(self.offsets, units, strict=True):
            offset *= 1 - self.centering_rate
            offset -= self.centering_rate * self.xp.matmul(w[data], m[data])

    # ---- what a checkpoint holds

    def arrays(self) -> dict[str, Any]:
        """Offsets and persistent seeds by name; live, not copied."""
        seeds = {f"seeds.{i}": m[: self.n_chains] for i, m in enumerate(self.units)}
        return save_offsets(self.offsets) | seeds

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        own = self.arrays()
        for name, array in own.items():
            if name not in arrays or tuple(arrays[name].shape) != tuple(array.shape):
                raise CheckpointError(f"fit: the checkpoint lacks {name} of shape {array.shape}")
        for name, array in own.items():
            array[...] = to_device(arrays[name], self.model.device)

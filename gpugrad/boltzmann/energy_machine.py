"""Machines of a user's own energy: any function of the units, and no derivative written.

    def energy(xp, params, v, h):
        return -xp.matmul(v, params.a) - xp.sum(xp.matmul(v, params.W) * h, axis=1)

    machine = EnergyMachine([BernoulliLayer(6), BernoulliLayer(2)], energy, {"a": a, "W": W})
    fit(machine, data)

All units have finitely many states, so that conditionals are sums: of one unit given all others
for any energy, or of a whole layer at once, with fields -dE/ds by autodiff, where the energy is
affine in each unit and couples no two units of a layer. Gradients come from autodiff either way.
"""

import math
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gpugrad.backend import special  # noqa: F401 (it makes the word logsumexp)
from gpugrad.backend.array_module import (
    asnumpy,
    current_device,
    device_of,
    get_array_module,
    on,
    to_device,
)
from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.lateral import unit_size
from gpugrad.boltzmann.layers.layer import Layer
from gpugrad.boltzmann.layers.potts import PottsLayer
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.state import (
    State,
    check_beta,
    check_data,
    check_dtype,
    check_layers,
    check_values,
    check_visible,
    namespace_for,
    positive_int,
)
from gpugrad.errors import ParameterError
from gpugrad.ops.creation import tensor

__all__ = ["EnergyMachine", "EnergyParameters"]

Energy = Callable[..., Any]

MAX_STATES = 2**20
"""Joint states of all layers up to which they are listed."""

BLOCK_ROWS = 2**14
"""Rows of states that the energy is asked for at a time when states are listed."""


class EnergyParameters(Layer):
    """The parameters of a user's energy, under the names that the user gave them.

    Parameters
    ----------
    arrays : dict of array
    """

    layer_type = "energy_parameters"

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.Params = namedtuple("ParamsEnergy", list(arrays))  # type: ignore[misc]
        super().__init__(**arrays)


class EnergyMachine:
    """A machine of units of finitely many states with an energy that the user gives.

    Parameters
    ----------
    layers : sequence of UnitLayer
        Visible layer first. They say which states the units have; their own parameters are not
        used: the energy is all that `energy` returns.
    energy : callable
        `energy(xp, params, *units)` of arrays (num_samples, num_units), one a layer, and a
        namedtuple of the parameters, in functions of the namespace `xp`; (num_samples,).
    parameters : dict of array
        Start values by name; a checkpoint calls them "energy.<name>".
    by : {"units", "layers"}
        What Gibbs sampling draws at once: one unit given all others, which is right for any energy;
        or a layer, which is right where the energy is affine in each unit (in each column of a
        Potts unit) and couples no two units of one layer. That is looked at when the machine is
        made, at random parameters.
    dtype : dtype, optional
    device : str or Device, optional

    Attributes
    ----------
    layers : list of UnitLayer
    terms : EnergyParameters
        Holds the parameters; takes penalties and constraints, as any layer does.

    Raises
    ------
    ParameterError
        Units of infinitely many states, an energy of another shape or that is NaN, or one that
        cannot be sampled layer by layer although it was said to.

    Examples
    --------
    Three spins that only a product of all three couples:

    >>> import numpy as np
    >>> from gpugrad.boltzmann.energy_machine import EnergyMachine
    >>> from gpugrad.boltzmann.layers import IsingLayer
    >>> def triple(xp, params, s):
    ...     return -params.K * s[:, 0] * s[:, 1] * s[:, 2]
    >>> machine = EnergyMachine([IsingLayer(3)], triple, {"K": np.array(0.5)}, device="cpu")
    >>> round(float(machine.log_partition() - np.log(8 * np.cosh(0.5))), 6)
    0.0
    """

    lateral: Mapping[int, Any] = {}

    def __init__(
        self,
        layers: Sequence[UnitLayer],
        energy: Energy,
        parameters: Mapping[str, Any],
        *,
        by: str = "units",
        dtype: Any = "float32",
        device: Any = None,
    ) -> None:
        self.layers = list(layers)
        if not self.layers or not all(isinstance(x, UnitLayer) and x.support for x in self.layers):
            raise ParameterError(
                f"EnergyMachine: layers are {self.layers!r}, expected one or more layers of units "
                "with finitely many states"
            )
        if not callable(energy):
            raise ParameterError(f"EnergyMachine: energy is {energy!r}, expected a function")
        known = all(isinstance(x, SpinLayer | PottsLayer) for x in self.layers)
        if by not in ("units", "layers") or (by == "layers" and not known):
            raise ParameterError(
                f"EnergyMachine: by is {by!r}, expected 'units', or 'layers' with Bernoulli, Ising "
                "or Potts units"
            )
        check_dtype("EnergyMachine", dtype)
        place = current_device() if device is None else device
        if not parameters:
            raise ParameterError("EnergyMachine: no parameters, expected at least one array")
        arrays = {
            name: to_device(np.asarray(asnumpy(a)).astype(dtype), place)
            for name, a in parameters.items()
        }
        self._energy, self.by = energy, by
        self.terms = EnergyParameters(arrays)
        for layer in self.layers:
            layer.convert(dtype=dtype, device=place)
        self._probe()

    def _probe(self) -> None:
        """Look at the energy's shape and, by layers, at whether they may be drawn at once."""
        rng = Generator(0)
        with on(self.device):
            state = self.random_state(8, rng=rng)
            energy = self.energy(state)
            shape = tuple(energy.shape)
            if shape != (8,):
                raise ParameterError(
                    f"EnergyMachine: the energy of 8 samples has shape {shape}, expected (8,)"
                )
            # +inf forbids a state; nan and -inf have no Boltzmann weight
            broken = ~(energy > -math.inf)
            if bool(broken.any()):
                raise ParameterError(
                    f"EnergyMachine: the energy of a sample is {float(energy[broken][0])}, "
                    "expected numbers, or inf for states that cannot occur"
                )
            if self.by == "units":
                return
            given = self.terms.params
            drawn = [rng.normal(tuple(p.shape), "float64", device=self.device) for p in given]
            wide = State(tuple(x.astype("float64") for x in state))
            try:
                # in float64 and at random parameters: at the given ones a term may vanish
                self.terms.params = self.terms.Params(*drawn)
                for i in range(self.num_layers):
                    self._check_affine(i, wide)
            finally:
                self.terms.params = given

    def _check_affine(self, i: int, state: State) -> None:
        """Whether the energies of a unit's states are those that the layer's field gives."""
        field = self._field(i, state)
        xp = namespace_for(field)
        other = self.random_state(state.num_samples, rng=Generator(1))[i].astype("float64")
        for units in (state, state.replace(i, other)):
            for site in range(self._sites(i)):
                columns, values = self._choices(i, site)
                e = self._energies_of(i, columns, values, units)
                expected = -xp.matmul(values.astype("float64"), field[:, columns].T)
                difference = (e - e[:1]) - (expected - expected[:1])
                if bool(xp.any(xp.absolute(difference) > 1e-6 * (1 + xp.absolute(e)))):
                    raise ParameterError(
                        f"EnergyMachine: by is 'layers', but the energy is not affine in unit "
                        f"{site} of layer {i}, or couples units of that layer; expected by='units'"
                    )

    def __repr__(self) -> str:
        layers = " - ".join(f"{x.num_units} {x.layer_type}" for x in self.layers)
        name = getattr(self._energy, "__name__", "energy")
        return f"EnergyMachine({layers}, {name}, {self.dtype}, {self.device})"

    def _repr_html_(self) -> str:
        from gpugrad.boltzmann.notebook import machine_html

        return machine_html(self)

    # ---- parameters, as those of any machine

    @property
    def num_layers(self) -> int:
        """Number of layers of units."""
        return len(self.layers)

    @property
    def dtype(self) -> Any:
        """Dtype of the parameters."""
        return self.terms.dtype

    @property
    def device(self) -> Any:
        """Device of the parameters."""
        return self.terms.device

    def parts(self) -> Iterator[tuple[str, Layer]]:
        """What holds parameters: ("energy", `terms`)."""
        yield "energy", self.terms

    def parameters(self) -> dict[str, Any]:
        """The parameters, "energy.<name>": the machine's own arrays."""
        return {f"energy.{name}": p for name, p in self.terms.params._asdict().items()}

    def set_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Replace parameters by copies of the given arrays, named as `parameters` names them.

        It looks at the values, for which it waits for the device.

        Raises
        ------
        ParameterError
            An unknown name, another shape, NaN or infinite values.
        """
        for name, value in parameters.items():
            check_values("set_parameters", name, value)
        self.terms.set_params({name.removeprefix("energy."): p for name, p in parameters.items()})

    def enforce_constraints(self) -> None:
        """Apply the constraints of `terms`."""
        self.terms.enforce_constraints()

    def config(self) -> dict[str, Any]:
        """What a checkpoint must have in common with the run that goes on from it."""
        return {
            "layers": [x.get_config() for x in self.layers],
            "energy": getattr(self._energy, "__qualname__", type(self._energy).__name__),
            "by": self.by,
            "parameters": {n: list(p.shape) for n, p in self.parameters().items()},
            "dtype": str(self.dtype),
            "terms": self.terms.get_base_config(),
        }

    # ---- energy

    def energy(self, state: State, parameters: Mapping[str, Any] | None = None) -> Any:
        """Energy of joint states, (num_samples,).

        Parameters
        ----------
        state : State of arrays or Tensors
        parameters : dict of array or Tensor, optional
            In place of the machine's own, named alike.
        """
        check_layers("energy", self, state)
        given = self.parameters() if parameters is None else parameters
        params = self.terms.Params(*(given[f"energy.{name}"] for name in self.terms.params._fields))
        return self._energy(namespace_for(*state, *params), params, *state)

    def free_energy(self, v: Any, parameters: Mapping[str, Any] | None = None) -> Any:
        """-log sum over hidden states of exp(-E(v, h)), (num_samples,), by listing them all.

        Parameters
        ----------
        v : array (num_samples, num_visible)
        parameters : dict of array or Tensor, optional

        Raises
        ------
        ParameterError
            More than 2^20 hidden states.
        """
        check_visible("free_energy", self, v)
        if self.num_layers == 1:
            return self.energy(State((v,)), parameters)
        xp = get_array_module(v)
        hidden = self._listed("free_energy", range(1, self.num_layers), 0)
        n, count = v.shape[0], hidden[0].shape[0]
        rows = [xp.repeat(v, count, axis=0)]
        rows += [xp.tile(h.astype(v.dtype), (n, 1)) for h in hidden]
        e = self.energy(State(tuple(rows)), parameters)
        return -namespace_for(e).logsumexp(-e.reshape(n, count), axis=1)

    def hidden_states(self) -> float:
        """Number of joint states of all hidden layers."""
        return math.prod(self._states(i) ** self._sites(i) for i in range(1, self.num_layers))

    def log_partition(self) -> float:
        """log Z by the sum over all joint states, in float64.

        Raises
        ------
        ParameterError
            More than 2^20 joint states.
        """
        wide = {name: p.astype("float64") for name, p in self.parameters().items()}
        found = []
        with on(self.device):
            for units in self._blocks("log_partition", range(self.num_layers)):
                e = self.energy(State(tuple(units)), wide)
                found.append(float(namespace_for(e).logsumexp(-e, axis=0)))
        return float(np.logaddexp.reduce(found))

    def log_likelihoods(self, data: Any) -> np.ndarray:
        """log p(v) of each sample, exactly, as float64 on the host.

        Parameters
        ----------
        data : array_like (num_samples, num_visible)
            States of the units.

        Raises
        ------
        DataError
            Wrong width, NaN, or values that are not states of the units.
        """
        data = check_data(self, data, function="log_likelihoods", support=True)
        wide = {name: p.astype("float64") for name, p in self.parameters().items()}
        step = max(1, BLOCK_ROWS // int(self.hidden_states()))
        with on(self.device):
            found = [
                -asnumpy(self.free_energy(data[i : i + step].astype("float64"), wide))
                for i in range(0, len(data), step)
            ]
        return np.concatenate(found) - self.log_partition()

    # ---- lists of states

    def _sites(self, i: int) -> int:
        return self.layers[i].num_units // unit_size(self.layers[i])

    def _states(self, i: int) -> int:
        width = unit_size(self.layers[i])
        return width if width > 1 else len(self.layers[i].support)

    def _choices(self, i: int, site: int) -> tuple[slice, Any]:
        """The columns of a unit, and the values that it puts there in each of its states."""
        layer = self.layers[i]
        width = unit_size(layer)
        values = np.eye(width) if width > 1 else np.array(layer.support)[:, None]
        columns = slice(site * width, (site + 1) * width)
        return columns, to_device(values.astype(self.dtype), self.device)

    def _listed(self, function: str, layers: Sequence[int], start: int) -> list[Any]:
        """All states of these layers, one array a layer, the last unit running fastest."""
        count = math.prod(self._states(i) ** self._sites(i) for i in layers)
        return self._decoded(function, layers, 0, count)

    def _blocks(self, function: str, layers: Sequence[int]) -> Iterator[list[Any]]:
        count = math.prod(self._states(i) ** self._sites(i) for i in layers)
        for start in range(0, count, BLOCK_ROWS):
            yield self._decoded(function, layers, start, min(start + BLOCK_ROWS, count))

    def _decoded(self, function: str, layers: Sequence[int], start: int, stop: int) -> list[Any]:
        """States number `start` to `stop`, in float64."""
        count = math.prod(self._states(i) ** self._sites(i) for i in layers)
        if count > MAX_STATES:
            raise ParameterError(
                f"{function}: {self!r} has {count:.3g} states to list, expected at most "
                f"{MAX_STATES}"
            )
        number, found = np.arange(start, stop), []
        for i in reversed(layers):
            q, sites = self._states(i), self._sites(i)
            digits = number[:, None] // q ** np.arange(sites)[::-1] % q
            number = number // q**sites
            values = asnumpy(self._choices(i, 0)[1]).astype("float64")[digits]
            found.append(to_device(values.reshape(stop - start, -1), self.device))
        return found[::-1]

    # ---- sampling

    def random_state(self, num_samples: int, *, rng: Generator | None = None) -> State:
        """A state with every unit in each of its states with equal probability."""
        n = positive_int("random_state", "num_samples", num_samples)
        found = []
        with on(self.device):
            xp = get_array_module(self.terms.params[0])
            for layer in self.layers:
                flat = type(layer.params)(*(xp.zeros_like(p) for p in layer.params))
                field = xp.zeros((n, layer.num_units), dtype=self.dtype)
                found.append(layer.draw(field, rng=rng, params=flat)[0])
        return State(tuple(found))

    def _field(self, i: int, state: State) -> Any:
        """-dE/ds of the units of a layer, (num_samples, num_units)."""
        units = [x if j != i else tensor(x, copy=False) for j, x in enumerate(state)]
        self.energy(State(tuple(units))).sum().backward()
        slope: Any = units[i].grad
        xp = get_array_module(state[i])
        return xp.zeros_like(state[i]) if slope is None else -slope

    def _energies_of(self, i: int, columns: slice, values: Any, state: State) -> Any:
        """Energies with one unit in each of its states, (states, num_samples)."""
        xp, q, n = get_array_module(values), len(values), state.num_samples
        rows = [xp.tile(x, (q, 1)) for x in state]
        rows[i][:, columns] = xp.repeat(values.astype(rows[i].dtype), n, axis=0)
        return self.energy(State(tuple(rows))).reshape(q, n)

    def _draw_units(self, i: int, state: State, beta: Any, rng: Generator, held: Any) -> Any:
        """A layer drawn unit by unit, each given all others."""
        units = state[i].copy()
        state = state.replace(i, units)
        xp = namespace_for(units)
        row = None if beta is None else beta.reshape(-1) if hasattr(beta, "shape") else beta
        for site in range(self._sites(i)):
            columns, values = self._choices(i, site)
            v = -self._energies_of(i, columns, values, state)
            v = v.astype("float64")
            v = v if row is None else row * v
            cumulated = xp.cumsum(xp.exp(v - xp.max(v, axis=0)), axis=0)
            u = rng.uniform((state.num_samples,), "float64", device=device_of(units))
            # the last bound is left out: rounding in the sum cannot lead beyond the last state
            new = values[xp.sum(u * cumulated[-1] >= cumulated[:-1], axis=0)]
            if held is not None:
                new = xp.where(
                    xp.broadcast_to(held[..., columns], new.shape), units[:, columns], new
                )
            units[:, columns] = new
        return units

    def _draw_layer(
        self, i: int, state: State, beta: Any, rng: Generator | None, *, mean: bool = False
    ) -> Any:
        layer = self.layers[i]
        field = self._field(i, state)
        xp = get_array_module(field)
        none = type(layer.params)(*(xp.zeros_like(p) for p in layer.params))
        drawn, average = layer.draw(
            field, beta, rng=rng, sample=not mean, mean=mean, out=field, params=none
        )
        return average if mean else drawn

    def gibbs_sweep(
        self, rng: Generator, state: State, *, beta: Any = None, masks: Mapping[int, Any]
    ) -> State:
        """One Gibbs sweep of all layers, those of even number first; see `samplers.gibbs`.

        Parameters
        ----------
        rng : Generator
        state : State
        beta : float or array (num_samples, 1), optional
        masks : dict of array of bool, or True
            Units that keep their values, by layer.
        """
        check_beta("gibbs", beta, state.num_samples)
        numbers = range(self.num_layers)
        for i in (*numbers[::2], *numbers[1::2]):
            mask = masks.get(i)
            if mask is True:
                continue
            if self.by == "units":
                new = self._draw_units(i, state, beta, rng, mask)
            else:
                new = self._draw_layer(i, state, beta, rng)
                if mask is not None:
                    new = get_array_module(new).where(mask, state[i], new)
            state = state.replace(i, new)
        return state

    def expected(self, state: State, *, held: Mapping[int, Any] | None = None) -> State:
        """The state with its odd layers at their means given the others, where drawn by layers.

        An energy affine in each unit averages over them as it does over their samples.
        """
        if self.by == "layers":
            for i in range(1, self.num_layers, 2):
                if i not in (held or {}):
                    state = state.replace(i, self._draw_layer(i, state, None, None, mean=True))
        return state

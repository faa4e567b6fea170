"""Machines of a user's own energy: any function of the units, and no derivative written.

    def energy(xp, params, v, h):
        return -xp.matmul(v, params.a) - xp.sum(xp.matmul(v, params.W) * h, axis=1)

    machine = EnergyMachine([BernoulliLayer(6), BernoulliLayer(2)], energy, {"a": a, "W": W})
    fit(machine, data)

All units have finitely many states, so that conditionals are sums: of one unit given all others
for any energy, or of a whole layer at once, with fields -dE/ds by autodiff, where the energy is
affine in each unit and couples no two units of a layer. Gradients come from autodiff either way.
An energy of inf forbids a state (with by="units"). log Z is a sum over all states (`energy_sums`),
or estimated (`partition`); files have the name of the energy (`energy_file`).
"""

import copy
import math
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from gpugrad.backend.array_module import (
    asnumpy,
    current_device,
    device_of,
    get_array_module,
    on,
    to_device,
)
from gpugrad.backend.rng import Generator, default_generator
from gpugrad.boltzmann.energy_sums import StateSums
from gpugrad.boltzmann.layers.layer import Layer
from gpugrad.boltzmann.layers.potts import PottsLayer
from gpugrad.boltzmann.layers.spin import SpinLayer
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.state import (
    State,
    check_beta,
    check_dtype,
    check_layers,
    check_values,
    namespace_for,
    positive_int,
)
from gpugrad.errors import ParameterError
from gpugrad.ops.creation import tensor

__all__ = ["EnergyMachine", "EnergyParameters", "energy_name"]

Energy = Callable[..., Any]


def energy_name(energy: Energy) -> str:
    """The qualified name of an energy, or that of its class."""
    return getattr(energy, "__qualname__", type(energy).__qualname__)


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


class EnergyMachine(StateSums):
    """A machine of units of finitely many states with an energy that the user gives.

    Parameters
    ----------
    layers : sequence of UnitLayer
        Visible layer first. They say which states the units have; their own parameters are not
        used: the energy is all that `energy` returns.
    energy : callable
        `energy(xp, params, *units)` of arrays (num_samples, num_units), one a layer, and a
        namedtuple of the parameters, in functions of the namespace `xp`; (num_samples,). inf for
        states that cannot occur.
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
        cannot be sampled layer by layer although it was said to: not affine, or infinite.

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
        self.layers = [layers] if isinstance(layers, UnitLayer) else list(layers)
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
            try:
                energy = self.energy(state)
            except Exception as error:
                shapes = ", ".join(str(tuple(units.shape)) for units in state)
                error.add_note(
                    f"EnergyMachine: in its first call of the energy, with 8 samples ({shapes}) "
                    f"and parameters {list(self.terms.params._fields)}"
                )
                raise
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
                if not bool(xp.all(xp.isfinite(e))):
                    raise ParameterError(
                        f"EnergyMachine: by is 'layers', but the energy of a state of layer {i} is "
                        "infinite; expected by='units'"
                    )
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
            "energy": energy_name(self._energy),
            "by": self.by,
            "parameters": {n: list(p.shape) for n, p in self.parameters().items()},
            "dtype": str(self.dtype),
            "terms": self.terms.get_base_config(),
        }

    def copy(self, *, dtype: Any = None, device: Any = None) -> Self:
        """A machine of the same energy with its own copies of layers and parameters."""
        twin = copy.copy(self)
        twin.layers, twin.terms = copy.deepcopy(self.layers), copy.deepcopy(self.terms)
        for part in (*twin.layers, twin.terms):
            part.convert(dtype=dtype, device=device)
        return twin

    @property
    def energy_function(self) -> Energy:
        """The energy as it was given: `energy_function(xp, params, *units)`."""
        return self._energy

    def with_energy(self, energy: Energy) -> Self:
        """A machine of another energy that shares layers and parameters with this one.

        Parameters
        ----------
        energy : callable
            Taken as it is, without a look at its values.
        """
        twin = copy.copy(self)
        twin._energy = energy
        return twin

    def save(self, path: Any, **metadata: Any) -> None:
        """Write parameters and configuration to a file (safetensors and JSON, no pickle).

        Of the energy the file has the name alone; see `energy_file.save_energy_machine`.
        """
        from gpugrad.boltzmann.energy_file import save_energy_machine

        save_energy_machine(self, path, **metadata)

    @staticmethod
    def load(
        path: Any, energy: Energy, *, layers: Sequence[UnitLayer] | None = None, device: Any = None
    ) -> "EnergyMachine":
        """Read a machine that `save` wrote; see `energy_file.load_energy_machine`.

        Parameters
        ----------
        path : str or path
        energy : callable
            The energy that the machine had: a function of the same qualified name.
        layers : sequence of UnitLayer, optional
            Those that the energy is written for; a file of other ones is refused.
        device : str or Device, optional
            Where to put it; the current device if None.

        Raises
        ------
        ModelFileError
            A damaged or foreign file, one of another energy, or of other layers or shapes.
        """
        from gpugrad.boltzmann.energy_file import load_energy_machine

        return load_energy_machine(path, energy, layers=layers, device=device)

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

    # ---- sampling

    def random_state(self, num_samples: int, *, rng: Generator | None = None) -> State:
        """A state with every unit in each of its states with equal probability."""
        n = positive_int("random_state", "num_samples", num_samples)
        found = []
        with on(self.device):
            xp = get_array_module(self.terms.params[0])
            for i, layer in enumerate(self.layers):
                if not isinstance(layer, SpinLayer | PottsLayer):
                    found.append(self._fair_units(i, n, rng))
                    continue
                flat = type(layer.params)(*(xp.zeros_like(p) for p in layer.params))
                field = xp.zeros((n, layer.num_units), dtype=self.dtype)
                found.append(layer.draw(field, rng=rng, params=flat)[0])
        return State(tuple(found))

    def _fair_units(self, i: int, n: int, rng: Generator | None) -> Any:
        """States of a user's units, whose own energy need not vanish with its parameters."""
        generator = default_generator() if rng is None else rng
        u = generator.uniform((n, self.layers[i].num_units), "float64", device=self.device)
        values = self._choices(i, 0)[1]
        return values[(u * len(values)).astype("int64"), 0]

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

    def _draw_units(
        self, i: int, state: State, beta: Any, rng: Generator, held: Any, *, backwards: bool = False
    ) -> Any:
        """A layer drawn unit by unit, each given all others."""
        units = state[i].copy()
        state = state.replace(i, units)
        xp = namespace_for(units)
        row = None if beta is None else beta.reshape(-1) if hasattr(beta, "shape") else beta
        sites = range(self._sites(i))
        for site in reversed(sites) if backwards else sites:
            columns, values = self._choices(i, site)
            v = -self._energies_of(i, columns, values, state)
            v = v.astype("float64")
            v = v if row is None else row * v
            # given others that forbid each of its states: a fair die, for the chain to come out
            v = xp.where(xp.max(v, axis=0) > -math.inf, v, 0.0)
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
        self,
        rng: Generator,
        state: State,
        *,
        beta: Any = None,
        masks: Mapping[int, Any],
        backwards: bool = False,
    ) -> State:
        """One Gibbs sweep of all layers, those of even number first; see `samplers.gibbs`.

        Parameters
        ----------
        rng : Generator
        state : State
        beta : float or array (num_samples, 1), optional
        masks : dict of array of bool, or True
            Units that keep their values, by layer.
        backwards : bool
            Draw layers, and units one by one, in the opposite order: the sweep's time reversal.
        """
        check_beta("gibbs", beta, state.num_samples)
        numbers = range(self.num_layers)
        order = [*numbers[::2], *numbers[1::2]]
        for i in reversed(order) if backwards else order:
            mask = masks.get(i)
            if mask is True:
                continue
            if self.by == "units":
                new = self._draw_units(i, state, beta, rng, mask, backwards=backwards)
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

"""What a machine does with its parameters whatever they mean: names, steps, copies, files."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from gpugrad.boltzmann.gradient_util import Gradient, named_arrays
from gpugrad.boltzmann.lateral import Lateral
from gpugrad.boltzmann.layers.layer import Layer, ParamsLayer
from gpugrad.boltzmann.layers.normalisable import check_partition_function
from gpugrad.boltzmann.layers.unit_layer import UnitLayer
from gpugrad.boltzmann.layers.weights import Weights
from gpugrad.boltzmann.state import check_values
from gpugrad.errors import ParameterError

if TYPE_CHECKING:
    from gpugrad.boltzmann.model import BoltzmannMachine

__all__ = ["MachineParameters"]


class MachineParameters:
    """The parameters of a `BoltzmannMachine`: its layers, its weights, its lateral couplings."""

    layers: list[UnitLayer]
    weights: list[Weights]
    lateral: dict[int, Lateral]

    def _check(self, function: str) -> None:
        check_partition_function(self.layers, self.weights, self.lateral, function=function)

    def _repr_html_(self) -> str:
        from gpugrad.boltzmann.notebook import machine_html

        return machine_html(self)

    # ---- names and places

    @property
    def num_layers(self) -> int:
        """Number of layers of units."""
        return len(self.layers)

    @property
    def dtype(self) -> Any:
        """Dtype of the parameters."""
        return self.layers[0].dtype

    @property
    def device(self) -> Any:
        """Device of the parameters."""
        return self.layers[0].device

    def parts(self) -> Iterator[tuple[str, Layer]]:
        """All that holds parameters, by name: "layers.0", ..., "weights.0", ..., "lateral.0"."""
        for i, layer in enumerate(self.layers):
            yield f"layers.{i}", layer
        for i, weights in enumerate(self.weights):
            yield f"weights.{i}", weights
        for i, lateral in self.lateral.items():
            yield f"lateral.{i}", lateral

    def params(self) -> Any:
        """The parameters in the structure of a gradient: live arrays, not copies."""
        none = ParamsLayer()
        return Gradient(
            [x.params for x in self.layers],
            [w.params for w in self.weights],
            [self.lateral[i].params if i in self.lateral else none for i in range(self.num_layers)]
            if self.lateral
            else [],
        )

    def parameters(self) -> dict[str, Any]:
        """The parameters by name: "layers.0.loc", "layers.1.loc", ..., "weights.0.matrix".

        Those of lateral couplings come last: "lateral.0.matrix".

        The arrays are the machine's own; a parameter step shows in them.
        """
        return dict(named_arrays(self.params()))

    def layer_params(self, layer: int, parameters: Mapping[str, Any]) -> Any:
        """The namedtuple of a layer's parameters out of a dict that names them as `parameters`."""
        kind = self.layers[layer].Params
        return kind(*(parameters[f"layers.{layer}.{name}"] for name in kind._fields))

    def set_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Replace parameters by copies of the given arrays, named as `parameters` names them.

        It looks at the values, for which it waits for the device.

        Raises
        ------
        ParameterError
            For an unknown name, another shape, NaN or infinite values; then nothing is replaced.
        NoPartitionFunctionError
            With these values the machine has no partition function; nothing is replaced either.
        """
        by_part: dict[str, dict[str, Any]] = {}
        own = self.parameters()
        for name, value in parameters.items():
            if name not in own:
                raise ParameterError(
                    f"set_parameters: no parameter {name!r}, expected one of {list(own)}"
                )
            shape = tuple(getattr(value, "shape", ()))
            if shape != tuple(own[name].shape):
                raise ParameterError(
                    f"set_parameters: {name} has shape {shape}, expected {tuple(own[name].shape)}"
                )
            check_values("set_parameters", name, value)
            part, field = name.rsplit(".", 1)
            by_part.setdefault(part, {})[field] = value
        parts = dict(self.parts())
        before = [(part, part.params) for part in parts.values()]
        try:
            for name, values in by_part.items():
                parts[name].set_params(values)
            self._check("set_parameters")
        except ParameterError:
            for unchanged, params in before:
                unchanged.params = params
            raise

    def to_device(self, device: Any) -> Self:
        """Move the parameters to a device, in place; returns the machine."""
        for _, part in self.parts():
            part.convert(device=device)
        return self

    def copy(self, *, dtype: Any = None, device: Any = None) -> Self:
        """A machine with the same configuration and its own copies of the parameters."""
        config = self.config()
        other = type(self).from_config(config, device=self.device if device is None else device)
        if dtype is not None:
            for _, part in other.parts():
                part.convert(dtype=dtype)
        # not `set_parameters`: a copy takes the values as they are
        for (_, part), (_, twin) in zip(self.parts(), other.parts(), strict=True):
            twin.set_params(part.params._asdict())
        other._check("copy")
        return other

    # ---- steps

    def parameter_step(self, deltas: Any) -> None:
        """theta <- theta - delta in place, then the constraints.

        Parameters
        ----------
        deltas : Gradient
        """
        for part, delta in zip(self.layers, deltas.layers, strict=True):
            part.parameter_step(delta)
        for coupling, delta in zip(self.weights, deltas.weights, strict=True):
            coupling.parameter_step(delta)
        if self.lateral and len(deltas.lateral) != self.num_layers:
            raise ParameterError(
                f"parameter_step: deltas have {len(deltas.lateral)} entries in `lateral`, expected "
                f"one a layer ({self.num_layers})"
            )
        for i, lateral in self.lateral.items():
            lateral.parameter_step(deltas.lateral[i])
        self.enforce_constraints()

    def enforce_constraints(self, *, function: str = "enforce_constraints") -> None:
        """Apply every constraint of every layer and coupling.

        Parameters
        ----------
        function : str
            The name that the message carries.

        Raises
        ------
        NoPartitionFunctionError
            The machine has none with the parameters that it has now. Looked at, and waited for,
            only where it depends on them: not for Bernoulli, Ising, Potts and truncated exponential
            units, nor for one Gaussian or ReLU layer between such.
        """
        for _, part in self.parts():
            part.enforce_constraints()
        self._check(function)

    def get_penalties(self) -> dict[str, float]:
        """Values of all penalties, named as the parameters they are on; waits for the device."""
        return {
            f"{name}.{parameter}": value
            for name, part in self.parts()
            for parameter, value in part.get_penalties().items()
        }

    # ---- configuration and files

    def config(self) -> dict[str, Any]:
        """Everything but the arrays, in a dictionary that JSON can hold."""
        config: dict[str, Any] = {
            "layers": [x.get_config() for x in self.layers],
            "weights": [w.get_config() for w in self.weights],
            "dtype": str(self.dtype),
        }
        if self.lateral:
            config["lateral"] = {str(i): x.get_config() for i, x in self.lateral.items()}
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, device: Any = None) -> Self:
        """Build the machine that `config` described: parameters at their start, weights zero.

        Raises
        ------
        ParameterError
            For a dictionary that describes no machine.
        """
        try:
            layers, weights, dtype = config["layers"], config["weights"], config["dtype"]
            lateral = {int(i): c for i, c in config.get("lateral", {}).items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ParameterError(
                f"BoltzmannMachine.from_config: {config!r} does not describe a machine"
            ) from error
        parts: list[Any] = [Layer.from_config(c) for c in layers]
        couplings: list[Any] = [Layer.from_config(c) for c in weights]
        inside: dict[int, Any] = {i: Layer.from_config(c) for i, c in lateral.items()}
        build: Any = cls  # the constructor is the subclass's
        return build(parts, dtype=dtype, device=device, weights=couplings, lateral=inside)

    def save(self, path: Any, **metadata: Any) -> None:
        """Write parameters and configuration to a file (safetensors and JSON, no pickle)."""
        from gpugrad.boltzmann.checkpoint import save_model

        machine: Any = self
        save_model(machine, path, **metadata)

    @staticmethod
    def load(path: Any, *, device: Any = None) -> "BoltzmannMachine":
        """Read a machine that `save` wrote.

        Raises
        ------
        ModelFileError
            For a file that is truncated, foreign, or of another version.
        """
        from gpugrad.boltzmann.checkpoint import load_model

        return load_model(path, device=device)

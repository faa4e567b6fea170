"""What layers of units and layers of weights share.

A layer holds its parameters as a namedtuple of arrays, on whatever device they live. Penalties and
constraints are attached per parameter. A configuration is a dictionary that JSON can hold; the
arrays themselves are saved by the model.
"""

from collections import namedtuple
from collections.abc import Mapping
from typing import Any, ClassVar

from gpugrad.backend.array_module import asnumpy, device_of, to_device
from gpugrad.boltzmann import constraints as constraint_table
from gpugrad.boltzmann import penalties as penalty_table
from gpugrad.errors import MissingExtraError, ModelFileError, ParameterError

__all__ = ["Layer", "ParamsLayer", "get"]

ParamsLayer = namedtuple("ParamsLayer", [])

_LAYERS: dict[str, "type[Layer]"] = {}


class Layer:
    """A general layer: parameters, penalties, constraints, configuration.

    A subclass sets `layer_type`, under which `get` and `from_config` find it, and `Params`, the
    namedtuple class of its parameters.
    """

    layer_type: ClassVar[str] = "layer"
    Params: ClassVar[Any] = ParamsLayer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "layer_type" not in cls.__dict__:
            return
        known = _LAYERS.get(cls.layer_type)
        # the same class may be defined anew, as a cell of a notebook does when it is run again
        if known is not None and _path(known) != _path(cls):
            raise ParameterError(
                f"{cls.__name__}: layer_type is {cls.layer_type!r}, which {_path(known)} has, "
                "expected a name of its own"
            )
        _LAYERS[cls.layer_type] = cls

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.params: Any = self.Params(*args, **kwargs)
        self.penalties: dict[str, Any] = {}
        self.constraints: dict[str, Any] = {}

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.params._asdict().items())
        return f"{type(self).__name__}({shapes})"

    # ---- where the parameters live

    @property
    def dtype(self) -> Any:
        """Dtype of the parameters."""
        return self.params[0].dtype

    @property
    def device(self) -> Any:
        """Device of the parameters."""
        return device_of(self.params[0])

    def convert(self, *, dtype: Any = None, device: Any = None) -> None:
        """Bring the parameters to a dtype and a device; what is there already stays as it is."""
        arrays = list(self.params)
        if dtype is not None:
            arrays = [array.astype(dtype, copy=False) for array in arrays]
        if device is not None:
            arrays = [to_device(array, device) for array in arrays]
        self.params = self.Params(*arrays)

    def set_params(self, values: Mapping[str, Any]) -> None:
        """Replace parameters by copies of the given arrays, cast to the layer's dtype and device.

        Raises
        ------
        ParameterError
            For an unknown name or another shape.
        """
        new = self.params._asdict()
        for name, value in values.items():
            old = self._param(name, "set_params")
            if tuple(value.shape) != tuple(old.shape):
                raise ParameterError(
                    f"set_params: {name} has shape {tuple(value.shape)}, "
                    f"{type(self).__name__} expected {tuple(old.shape)}"
                )
            # astype always copies: the layer never shares memory with the caller's array
            new[name] = to_device(value.astype(old.dtype), device_of(old))
        self.params = self.Params(**new)

    def _param(self, name: str, function: str) -> Any:
        if name not in self.params._fields:
            raise ParameterError(
                f"{function}: {type(self).__name__} has no parameter {name!r}, "
                f"expected one of {list(self.params._fields)}"
            )
        return getattr(self.params, name)

    # ---- penalties and constraints

    def add_constraint(self, constraint: Mapping[str, Any]) -> None:
        """Attach constraints, {parameter name: function that projects in place}."""
        for name, function in constraint.items():
            self._param(name, "add_constraint")
            if not callable(function):
                raise ParameterError(
                    f"add_constraint: the constraint on {name} is {function!r}, expected a "
                    "function that projects in place"
                )
        self.constraints.update(constraint)

    def enforce_constraints(self) -> None:
        """Apply each constraint to its parameter, in place."""
        for name, constraint in self.constraints.items():
            constraint(getattr(self.params, name))

    def add_penalty(self, penalty: Mapping[str, Any]) -> None:
        """Attach penalties, {parameter name: Penalty}."""
        for name, term in penalty.items():
            self._param(name, "add_penalty")
            if not (hasattr(term, "grad") and hasattr(term, "value")):
                raise ParameterError(
                    f"add_penalty: the penalty on {name} is {term!r}, expected a Penalty"
                )
        self.penalties.update(penalty)

    def get_penalties(self) -> dict[str, float]:
        """Values of the penalties, {parameter name: value}; waits for the device."""
        return {
            name: float(penalty.value(getattr(self.params, name)))
            for name, penalty in self.penalties.items()
        }

    def get_penalty_grad(self, deriv: Any, param_name: str) -> Any:
        """`deriv` plus the gradient of the penalty on that parameter, if it has one."""
        if param_name not in self.penalties:
            return deriv
        return deriv + self.penalties[param_name].grad(self._param(param_name, "get_penalty_grad"))

    # ---- steps

    def parameter_step(self, deltas: Any) -> None:
        """Subtract `deltas` from the parameters, in place.

        Parameters
        ----------
        deltas : dict or namedtuple of array
            {parameter name: array of the parameter's shape}; names left out stay as they are.
        """
        if not isinstance(deltas, Mapping):
            deltas = deltas._asdict()
        for name, delta in deltas.items():
            parameter = self._param(name, "parameter_step")
            # `-=` on the array itself: views handed out before see the step
            parameter -= delta

    # ---- configuration and files

    def get_base_config(self) -> dict[str, Any]:
        """Type, dtype, penalties and constraints of the layer; JSON can hold the result."""
        names = {}
        for parameter, constraint in self.constraints.items():
            name = getattr(constraint, "__name__", repr(constraint))
            constraint_table.get(name)  # fails now, not when the file is read
            names[parameter] = name
        return {
            "layer_type": self.layer_type,
            "dtype": str(self.dtype) if self.params else None,
            "penalties": {name: p.get_config() for name, p in self.penalties.items()},
            "constraints": names,
        }

    def get_config(self) -> dict[str, Any]:
        """The base configuration and what the constructor needs; the arrays are not in it."""
        return self.get_base_config()

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "Layer":
        """Build the layer that `get_config` described, with parameters at their start values.

        Raises
        ------
        ParameterError
            For a configuration that describes no layer.
        """
        try:
            layer: Any = get(config["layer_type"])._from_config(config)
            if "sample_size" in config:
                layer.sample_size = int(config["sample_size"])
            layer.add_penalty(
                {n: penalty_table.from_config(c) for n, c in config["penalties"].items()}
            )
            layer.add_constraint(
                {n: constraint_table.get(c) for n, c in config["constraints"].items()}
            )
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise ParameterError(
                f"Layer.from_config: {config!r} does not describe a layer ({error})"
            ) from error
        return layer

    @classmethod
    def _from_config(cls, config: Mapping[str, Any]) -> "Layer":
        return cls()

    def save_params(self, store: Any, key: str) -> None:
        """Write the parameters into a pandas.HDFStore, one table a parameter below `key`.

        PyTables unpickles attributes of the files it opens, which can run code: such files are for
        one's own use. A machine to pass on is saved by `BoltzmannMachine.save`.

        Parameters
        ----------
        store : pandas.HDFStore
        key : str
            Path inside the store.

        Raises
        ------
        MissingExtraError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError(
                'save_params: needs the packages pandas and tables: pip install "gpugrad[hdf]"'
            ) from error
        for name, array in self.params._asdict().items():
            host = asnumpy(array)
            if host.dtype.itemsize < 4:
                host = host.astype("float32")  # HDFStore has no half precision
            # without times two files of equal parameters are equal
            store.put(f"{key}/{name}", pandas.DataFrame(host), track_times=False)

    def load_params(self, store: Any, key: str) -> None:
        """Read what `save_params` wrote.

        PyTables unpickles attributes of the files it opens, which can run code: open only files of
        your own. For files from elsewhere use the model's own format.

        Raises
        ------
        ModelFileError
            A parameter is missing in the store or has another shape.
        """
        loaded = {}
        for name, old in self.params._asdict().items():
            try:
                table = store.get(f"{key}/{name}").to_numpy()
            except KeyError as error:
                raise ModelFileError(f"load_params: the store has no {key}/{name}") from error
            if table.size != old.size or table.shape[0] != old.shape[0]:
                raise ModelFileError(
                    f"load_params: {key}/{name} has shape {table.shape}, "
                    f"{type(self).__name__} expected {tuple(old.shape)}"
                )
            loaded[name] = table.reshape(old.shape)
        self.set_params(loaded)


def get(key: Any) -> "type[Layer]":
    """The layer class of a name: its `layer_type` or its class name, in any case.

    Raises
    ------
    ParameterError
        For a name that no class has.
    """
    if isinstance(key, type) and issubclass(key, Layer):
        return key
    wanted = str(key).lower()
    for name, kind in _LAYERS.items():
        if wanted in (name, kind.__name__.lower()):
            return kind
    raise ParameterError(
        f"layers.get: no layer {key!r}, known are {sorted(_LAYERS)} (a class of one's own has to "
        "be defined, or imported, before)"
    )


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"

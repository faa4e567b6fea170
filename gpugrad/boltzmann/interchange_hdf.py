"""HDF5 files of the packages `rbms` and paysage.

Reading needs h5py alone. In paysage's files the configuration is a pickle, made by PyTables. It
says which units the layers have, and whether they are centred, which is another energy: so it is
read, but only numbers, text, lists and dicts are made of it. No class in it is looked up, and
nothing is run.
"""

import io
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpugrad.atomic_file import write_atomically
from gpugrad.backend.array_module import asnumpy
from gpugrad.boltzmann.datasets import h5py_for
from gpugrad.boltzmann.interchange_layers import assemble, on_host, reading, refuse_units
from gpugrad.boltzmann.layers import PottsLayer
from gpugrad.boltzmann.model import BoltzmannMachine
from gpugrad.boltzmann.state import check_data, positive_int
from gpugrad.errors import MissingExtraError, ModelFileError, ParameterError

__all__ = ["holds_rbms", "read_paysage", "read_rbms", "write_paysage", "write_rbms"]


# ---- rbms


RBMS_TYPES = {"bernoulli": "BBRBM", "potts": "PBRBM"}
RBMS_NAMES = {
    "weights.0.matrix": "weight_matrix",
    "layers.0.loc": "vbias",
    "layers.1.loc": "hbias",
}
RBMS_DEFAULTS = {
    "batch_size": 2000,
    "gibbs_steps": 100,
    "learning_rate": 0.01,
    "L1": 0.0,
    "L2": 0.0,
}
"""Settings of training without which `rbms.io.load_model` does not load, as `rbms` starts them."""


def holds_rbms(path: Any) -> bool:
    """Whether an HDF5 file is one of `rbms`."""
    with h5py_for("format_of").File(path, "r") as file:
        return "model_type" in file


def read_rbms(
    path: Any, *, update: int | None = None, dtype: Any = None, device: Any = None
) -> BoltzmannMachine:
    """A machine from an archive of the package `rbms` 0.5.

    Parameters
    ----------
    path : str or path
        An archive holds the machine at several times of its training.
    update : int, optional
        Which of them, by its number of updates; the last one if None.
    dtype : dtype, optional
        That of the file if None.
    device : str or Device, optional

    Returns
    -------
    BoltzmannMachine
        A BBRBM has Bernoulli units, a PBRBM Potts visible units: its states are numbers there, and
        one-hot here (`PottsLayer.one_hot`).

    Raises
    ------
    ModelFileError
        No such file, another kind of file, one that is damaged, another type of machine, or no such
        update.
    MissingExtraError
        h5py is not installed.
    """
    with reading("read_rbms", path, "an archive of rbms"):
        with h5py_for("read_rbms").File(path, "r") as file:
            kind = file["model_type"][()].decode()
            saved = sorted(int(n.removeprefix("update_")) for n in file if n.startswith("update_"))
            if update is None:
                update = saved[-1] if saved else 0
            if update not in saved:
                raise ModelFileError(
                    f"read_rbms: {path} has no update {update}, expected one of {saved}"
                )
            group = file[f"update_{update}"]["params"]
            arrays = {name: np.asarray(group[theirs][()]) for name, theirs in RBMS_NAMES.items()}
    units = {theirs: unit for unit, theirs in RBMS_TYPES.items()}
    if kind not in units:
        raise ModelFileError(
            f"read_rbms: {path} holds a machine of type {kind!r}, expected {' or '.join(units)}"
        )
    visible, W = units[kind], arrays["weights.0.matrix"]
    if W.ndim != (3 if visible == "potts" else 2):
        raise ModelFileError(f"read_rbms: {path}: weight_matrix of a {kind} has shape {W.shape}")
    if visible == "potts":
        visible = f"potts:{W.shape[1]}"
        arrays["weights.0.matrix"] = W.reshape(-1, W.shape[2])
    return assemble("read_rbms", path, [visible, "bernoulli"], arrays, dtype=dtype, device=device)


def write_rbms(
    model: BoltzmannMachine,
    path: Any,
    *,
    update: int = 1,
    chains: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a machine as an archive of the package `rbms` 0.5.

    `rbms.io.load_params` loads it, and with `chains` `rbms.io.load_model` too.

    Parameters
    ----------
    model : BoltzmannMachine
        Two layers, Bernoulli or Potts visible units and Bernoulli hidden ones.
    path : str or path
        A file of that name is replaced.
    update : int
        The number of updates that the machine has gone through.
    chains : array (n, num_visible), optional
        Visible states of the persistent chains.
    settings : dict, optional
        Of training, for whoever goes on with it: batch_size, gibbs_steps, learning_rate, L1, L2;
        the package's own defaults where it has no entry.

    Raises
    ------
    ParameterError
        Another machine, which the message tells by its layer; a setting that HDF5 cannot hold.
    DataError
        Chains that are no states of the machine.
    MissingExtraError
        h5py is not installed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from gpugrad.boltzmann import RBM
    >>> from gpugrad.boltzmann.interchange import read_rbms, write_rbms
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "machine.h5"
    >>> write_rbms(RBM(6, 3, device="cpu"), file, update=100)
    >>> read_rbms(file, device="cpu")
    BoltzmannMachine(6 bernoulli - 3 bernoulli, float32, cpu)
    """
    refuse_units("write_rbms", model, "rbms", tuple(RBMS_TYPES), ("bernoulli",))
    positive_int("write_rbms", "update", update)
    visible, hidden = model.layers
    arrays = {name: asnumpy(model.parameters()[name]) for name in RBMS_NAMES}
    if isinstance(visible, PottsLayer):
        shape = (visible.num_sites, visible.num_states, hidden.num_units)
        arrays["weights.0.matrix"] = arrays["weights.0.matrix"].reshape(shape)
    if chains is not None:
        chains = check_data(model, chains, function="write_rbms", support=True)
        if isinstance(visible, PottsLayer):
            chains = visible.labels(chains).astype(model.dtype)
        chains = asnumpy(chains)
    content = io.BytesIO()
    with h5py_for("write_rbms").File(content, "w") as file:
        file["model_type"] = RBMS_TYPES[visible.layer_type]
        group = file.create_group(f"update_{update}")
        group["time"] = 0.0
        group.create_group("flags")
        parameters = group.create_group("params")
        for name, theirs in RBMS_NAMES.items():
            parameters[theirs] = arrays[name]
            group[theirs] = parameters[theirs]  # a link: where older releases look
        if chains is not None:
            file["parallel_chains"] = chains
            sizes = {
                "num_visibles": getattr(visible, "num_sites", visible.num_units),
                "num_hiddens": hidden.num_units,
                "num_chains": chains.shape[0],
            }
            for name, value in (RBMS_DEFAULTS | dict(settings or {}) | sizes).items():
                try:
                    file[f"hyperparameters/{name}"] = value
                except (TypeError, ValueError) as error:
                    raise ParameterError(
                        f"write_rbms: settings has {name} {value!r}, expected what HDF5 holds: a "
                        "number, text, or an array of numbers"
                    ) from error
    write_atomically(path, content.getvalue())


# ---- paysage


PAYSAGE_UNITS = {
    "BernoulliLayer": "bernoulli",
    "ExponentialLayer": "exponential",
    "GaussianLayer": "gaussian",
    "IsingLayer": "ising",
    "OneHotLayer": "potts",  # one site, as many states as the layer has units
}
PAYSAGE_LAYERS = {
    "bernoulli": "BernoulliLayer",
    "gaussian": "GaussianLayer",
    "potts": "OneHotLayer",
}
"""The layers of the release on PyPI, 0.2.1, for which files are written."""
FIELDS = ("loc", "log_var")


def read_paysage(
    path: Any, *, units: Sequence[str] | None = None, dtype: Any = None, device: Any = None
) -> BoltzmannMachine:
    """A machine from a file that paysage's `BoltzmannMachine.save` wrote into a pandas.HDFStore.

    Layers and weights are found by the numbers in their paths, so that the files of its releases
    are read, and stores filled by `Layer.save_params` under such paths.

    Parameters
    ----------
    path : str or path
    units : sequence of str, optional
        Unit types of the layers, visible first, where the file does not tell them: "bernoulli",
        "gaussian", ..., "potts:4".
    dtype : dtype, optional
        That of the file if None.
    device : str or Device, optional

    Raises
    ------
    ModelFileError
        No such file, another kind of file, one that is damaged; centred layers, whose energy is
        another one; connections that skip a layer.
    ParameterError
        `units` are needed and missing, or unknown.
    MissingExtraError
        h5py is not installed.

    Notes
    -----
    Paysage 0.2.1 averages the energy of Gaussian units where it should be a sum; its conditional
    distributions are those of the machine that is read.
    """
    with reading("read_paysage", path, "a machine of paysage in HDF5"):
        with h5py_for("read_paysage").File(path, "r") as file:
            arrays = _paysage_arrays(path, file)
            config = _plain(file["model"].attrs.get("config")) if "model" in file else None
        if not any(name.startswith("layers.") for name in arrays):
            raise ModelFileError(f"read_paysage: {path} has no layers of paysage")
        told = _paysage_units(path, config)
    units = told if units is None else units
    if units is None:
        raise ParameterError(
            f"read_paysage: {path} does not tell the unit types of its layers, expected "
            f"units=[...] for {sum(n.endswith('.loc') for n in arrays)} layers"
        )
    units = [
        f"potts:{arrays[f'layers.{i}.loc'].size}"
        if unit == "potts" and f"layers.{i}.loc" in arrays
        else unit
        for i, unit in enumerate(units)
    ]
    return assemble("read_paysage", path, units, arrays, dtype=dtype, device=device)


def _paysage_arrays(path: Any, file: Any) -> dict[str, np.ndarray]:
    """The parameters in a store by our names: layers/layers_0/parameters/params0 and the like."""
    found: dict[str, np.ndarray] = {}

    def look(name: str, item: Any) -> None:
        parts = name.split("/")
        owner = next((i for i, part in enumerate(parts) if part[-1:].isdecimal()), len(parts))
        kind = "/".join(parts[: owner + 1])
        field = parts[-1]
        if item.attrs.get("pandas_type") is None or owner >= len(parts) - 1:
            return
        number = int(re.findall(r"\d+", parts[owner])[-1])
        place = int(field[-1]) if field[-1].isdecimal() else -1
        if field.startswith("moments"):
            return
        if "weight" in kind or "connection" in kind:
            ours = f"weights.{number}.matrix"
        elif "layer" in kind:
            ours = f"layers.{number}.{FIELDS[place] if place >= 0 else field}"
        else:
            return
        if ours in found:
            raise ModelFileError(f"read_paysage: {path} has two arrays for {ours}")
        found[ours] = _table(path, name, item)

    file.visititems(look)
    return found


def _table(path: Any, name: str, group: Any) -> np.ndarray:
    """A pandas.DataFrame of one dtype in the store's fixed format."""
    if "block0_values" not in group or "block1_values" in group:
        raise ModelFileError(
            f"read_paysage: {path}: {name} is not a table of numbers in pandas' fixed format"
        )
    values = group["block0_values"]
    array = np.asarray(values[()])
    return array if values.attrs.get("transposed", 1) else array.T


class _Unread:
    """What is made in place of an object of any class: nothing of it is looked at."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __new__(cls, *arguments: Any) -> "_Unread":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _Plain(pickle.Unpickler):
    """Numbers, text, lists, tuples and dicts; nothing is imported, and nothing else is called.

    The penalties of a machine have slices in them, which are of a class.
    """

    def find_class(self, module: str, name: str) -> Any:
        return _Unread

    def persistent_load(self, pid: Any) -> Any:
        return _Unread()


def _plain(text: Any) -> Any:
    """The configuration that PyTables pickled; None where there is none."""
    return None if text is None else _Plain(io.BytesIO(bytes(text))).load()


def _paysage_units(path: Any, config: Any) -> list[str] | None:
    """Unit types by the configuration; None without one. What we do not have is refused."""
    if config is None:
        return None
    units = []
    for i, layer in enumerate(config["layers"]):
        kind = layer["layer_type"]
        if kind not in PAYSAGE_UNITS:
            raise ModelFileError(
                f"read_paysage: {path}: layer {i} is a {kind}, expected one of "
                f"{list(PAYSAGE_UNITS)}"
            )
        if layer.get("center"):
            raise ModelFileError(
                f"read_paysage: {path}: layer {i} is centred, expected layers whose energy is that "
                "of the units themselves"
            )
        units.append(PAYSAGE_UNITS[kind])
    for i, connection in enumerate(config.get("connections", [])):
        ends = (connection["target_index"], connection["domain_index"])
        if ends != (i, i + 1):
            raise ModelFileError(
                f"read_paysage: {path}: connection {i} joins the layers {ends[0]} and {ends[1]}, "
                f"expected {i} and {i + 1}"
            )
    return units


def write_paysage(model: BoltzmannMachine, path: Any) -> None:
    """Write a machine as paysage 0.2.1 does, into a pandas.HDFStore.

    `paysage.models.BoltzmannMachine.from_saved` loads it.

    Parameters
    ----------
    model : BoltzmannMachine
        Layers of Bernoulli or Gaussian units, or Potts units of one site; of any number.
    path : str or path
        A file of that name is replaced.

    Raises
    ------
    ParameterError
        Another machine, which the message tells by its layer.
    MissingExtraError
        pandas and PyTables are not installed.
    """
    refuse_units("write_paysage", model, "paysage 0.2.1", tuple(PAYSAGE_LAYERS))
    for i, layer in enumerate(model.layers):
        if getattr(layer, "num_sites", 1) > 1 and isinstance(layer, PottsLayer):
            raise ParameterError(
                f"write_paysage: layers[{i}] has {layer.num_sites} Potts sites, expected one: "
                "paysage has no others"
            )
    try:
        import pandas
        import tables  # noqa: F401 (by which pandas writes)
    except ImportError as error:
        raise MissingExtraError(
            'write_paysage: needs the packages pandas and tables: pip install "gpugrad[hdf]"'
        ) from error
    host = on_host(model)
    memory = {"driver": "H5FD_CORE", "driver_core_backing_store": 0}
    with pandas.HDFStore("machine", "w", **memory) as store:

        def put(key: str, table: Any) -> None:
            # without times two files of equal machines are equal
            store.put(key, table, track_times=False)

        put("model", pandas.DataFrame())
        store.get_storer("model").attrs.config = _paysage_config(host)
        for i, layer in enumerate(host.layers):
            key = f"layers/layers_{i}/parameters"
            for place, array in enumerate(layer.params):
                put(f"{key}/params{place}", pandas.DataFrame(array.reshape(-1)))
                put(f"{key}/moments{place}", pandas.DataFrame(_moments(layer)))
        for i, weights in enumerate(host.weights):
            put(f"connections/weights_{i}/parameters/key0", pandas.DataFrame(weights.W()))
        content = store._handle.get_file_image()
    write_atomically(path, content)


def _moments(layer: Any) -> dict[str, np.ndarray]:
    """What a new layer of paysage knows of its units: their mean, seen once."""
    mean = layer.conditional_mean([np.zeros((1, 1), layer.dtype)], [np.zeros((1, layer.num_units))])
    zeros = np.zeros(layer.num_units)
    ones = np.ones(layer.num_units, np.int64)
    return {"num": ones, "mean": mean[0], "var": zeros, "square": zeros}


def _paysage_config(model: BoltzmannMachine) -> dict[str, Any]:
    plain: dict[str, Any] = {"penalties": {}, "constraints": {}}
    layers = [
        {
            "layer_type": PAYSAGE_LAYERS[layer.layer_type],
            "num_units": layer.num_units,
            "center": False,
            "parameters": list(layer.Params._fields),
            "fixed_params": [],
            **plain,
        }
        for layer in model.layers
    ]
    connections = [
        {
            "target_index": i,
            "domain_index": i + 1,
            "weights": {
                "layer_type": "Weights",
                "parameters": ["matrix"],
                "shape": tuple(int(n) for n in weights.shape),
                **plain,
            },
        }
        for i, weights in enumerate(model.weights)
    ]
    return {"type": "BoltzmannMachine", "layers": layers, "connections": connections}

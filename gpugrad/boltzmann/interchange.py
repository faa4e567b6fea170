"""Machines from other packages and for them: scikit-learn, `rbms`, paysage, and plain arrays.

    scikit-learn   `from_sklearn`, `to_sklearn`         estimators in memory
    NPZ            `read_npz`, `write_npz`              any machine, its configuration included
    rbms 0.5       `read_rbms`, `write_rbms`            Bernoulli or Potts visible, Bernoulli hidden
    paysage        `read_paysage`, `write_paysage`      Bernoulli, Gaussian, one Potts site

All of these packages have the energy -a.v - b.h - v.W.h and units of the states 0 and 1, with the
visible units along the rows of W (in scikit-learn along the columns): no sign and no factor changes
on the way.

What a format cannot hold is refused by name before a file is begun, and a file is written entirely
or not at all. Parameters alone travel to other packages: penalties, constraints and the state of
training stay behind.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpugrad.atomic_file import write_atomically
from gpugrad.backend.array_module import asnumpy, current_device
from gpugrad.boltzmann.datasets import HDF5_MAGIC, ZIP_MAGIC
from gpugrad.boltzmann.interchange_hdf import (
    holds_rbms,
    read_paysage,
    read_rbms,
    write_paysage,
    write_rbms,
)
from gpugrad.boltzmann.interchange_layers import assemble, fill, on_host, reading, refuse_units
from gpugrad.boltzmann.model import RBM, BoltzmannMachine, check_boltzmann
from gpugrad.errors import MissingExtraError, ModelFileError, ParameterError

__all__ = [
    "FORMATS",
    "format_of",
    "from_sklearn",
    "read_npz",
    "read_paysage",
    "read_rbms",
    "to_sklearn",
    "write_npz",
    "write_paysage",
    "write_rbms",
]

CONFIG = "config"


# ---- plain arrays


def write_npz(model: BoltzmannMachine, path: Any) -> None:
    """Write a machine as an NPZ archive, which `numpy.load` reads anywhere.

    The arrays have the names of `BoltzmannMachine.parameters`; "config" is the configuration as
    JSON text, penalties and constraints included.

    Parameters
    ----------
    model : BoltzmannMachine
        Of any units and depth, with lateral couplings or without, on any device.
    path : str or path
        A file of that name is replaced.

    Raises
    ------
    ParameterError
        Another kind of machine.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from gpugrad.boltzmann import RBM
    >>> from gpugrad.boltzmann.interchange import read_npz, write_npz
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "machine.npz"
    >>> write_npz(RBM(6, 3, device="cpu"), file)
    >>> np.load(file)["weights.0.matrix"].shape
    (6, 3)
    >>> read_npz(file, device="cpu")
    BoltzmannMachine(6 bernoulli - 3 bernoulli, float32, cpu)
    """
    check_boltzmann("write_npz", model)
    arrays: dict[str, Any] = {name: asnumpy(x) for name, x in model.parameters().items()}
    arrays[CONFIG] = np.array(json.dumps(model.config()))
    write_atomically(path, lambda file: np.savez(file, **arrays))


def read_npz(
    path: Any,
    *,
    units: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    dtype: Any = None,
    device: Any = None,
) -> BoltzmannMachine:
    """The machine in an NPZ archive, written by `write_npz` or by any call of `numpy.savez`.

    Parameters
    ----------
    path : str or path
    units : sequence of str, optional
        Unit types of the layers, visible first, where the archive does not tell: "bernoulli",
        "ising", "gaussian", ..., "potts:4" for sites of four states.
    names : dict of str, optional
        {parameter: array}, where the archive has other names, such as
        {"weights.0.matrix": "W", "layers.0.loc": "b", "layers.1.loc": "c"}; arrays that are not
        named are passed over then. W is (visible, hidden).
    dtype : dtype, optional
        Of the machine; that of the arrays if None.
    device : str or Device, optional

    Raises
    ------
    ModelFileError
        No such file, another kind of file, one that is damaged, or arrays that make no machine.
    ParameterError
        `units` are needed and missing, or unknown.
    """
    with reading("read_npz", path, "an NPZ archive"):
        # opened here: where np.load fails on a damaged archive it leaves its own file open
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        config = arrays.pop(CONFIG, None)
        if config is not None and units is None and names is None:
            return _configured(path, str(config[()]), arrays, dtype, device)
    if units is None:
        raise ParameterError(
            f"read_npz: {path} does not tell the unit types of its layers, expected units=[...]; "
            f"its arrays are {sorted(arrays)}"
        )
    if names is not None:
        missing = sorted(set(names.values()) - set(arrays))
        if missing:
            raise ModelFileError(f"read_npz: {path} has no {missing}, it has {sorted(arrays)}")
        arrays = {parameter: arrays[name] for parameter, name in names.items()}
    return assemble("read_npz", path, units, arrays, dtype=dtype, device=device)


def _configured(
    path: Any, config: str, arrays: Mapping[str, np.ndarray], dtype: Any, device: Any
) -> BoltzmannMachine:
    try:
        model = BoltzmannMachine.from_config(json.loads(config), device="cpu")
        fill(model, arrays)
    except ParameterError as error:
        raise ModelFileError(f"read_npz: {path} does not hold a machine ({error})") from error
    place = current_device() if device is None else device
    return model.to_device(place) if dtype is None else model.copy(dtype=dtype, device=place)


# ---- scikit-learn


def from_sklearn(estimator: Any, *, device: Any = None) -> BoltzmannMachine:
    """The machine of a fitted `BernoulliRBM`, scikit-learn's or `gpugrad.boltzmann.estimator`'s.

    Parameters
    ----------
    estimator : object
        With `components_` (hidden, visible), `intercept_visible_` and `intercept_hidden_`.
    device : str or Device, optional

    Returns
    -------
    BoltzmannMachine
        Of the dtype of `components_`; no memory is shared.

    Raises
    ------
    ParameterError
        An estimator that is not fitted, or something else; shapes that do not fit; NaN.
    """
    names = ("components_", "intercept_visible_", "intercept_hidden_")
    missing = [name for name in names if not hasattr(estimator, name)]
    if missing:
        raise ParameterError(
            f"from_sklearn: {type(estimator).__name__} has no {', '.join(missing)}, expected a "
            "fitted BernoulliRBM"
        )
    components, a, b = (asnumpy(getattr(estimator, name)) for name in names)
    if components.ndim != 2:
        raise ParameterError(
            f"from_sklearn: components_ has shape {components.shape}, expected (hidden, visible)"
        )
    dtype = components.dtype if components.dtype.kind == "f" else "float64"
    model = RBM(*components.shape[::-1], dtype=dtype, device=device)
    fill(model, {"layers.0.loc": a, "layers.1.loc": b, "weights.0.matrix": components.T})
    return model


def to_sklearn(model: BoltzmannMachine, **parameters: Any) -> Any:
    """A fitted `sklearn.neural_network.BernoulliRBM` with the machine's parameters.

    For gpugrad's own estimator, which computes on the machine's device, there is
    `gpugrad.boltzmann.estimator.BernoulliRBM.from_machine`.

    Parameters
    ----------
    model : BoltzmannMachine
        Two layers of Bernoulli units.
    **parameters
        Of the estimator, for `partial_fit`: learning_rate, batch_size...

    Returns
    -------
    sklearn.neural_network.BernoulliRBM
        Its arrays are copies on the host; its chains start at 0, as those of a new one.

    Raises
    ------
    ParameterError
        Another machine.
    MissingExtraError
        scikit-learn is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.boltzmann import RBM
    >>> from gpugrad.boltzmann.interchange import from_sklearn, to_sklearn
    >>> estimator = to_sklearn(RBM(6, 3, device="cpu"), learning_rate=0.01)
    >>> estimator.transform(np.zeros((1, 6))).shape
    (1, 3)
    >>> from_sklearn(estimator, device="cpu")
    BoltzmannMachine(6 bernoulli - 3 bernoulli, float32, cpu)
    """
    refuse_units("to_sklearn", model, "scikit-learn", ("bernoulli",), ("bernoulli",))
    try:
        from sklearn.neural_network import BernoulliRBM
    except ImportError as error:
        raise MissingExtraError(
            'to_sklearn: needs the package scikit-learn: pip install "gpugrad[sklearn]"'
        ) from error
    host = on_host(model)
    visible, hidden = host.layers
    if parameters.setdefault("n_components", hidden.num_units) != hidden.num_units:
        raise ParameterError(
            f"to_sklearn: n_components is {parameters['n_components']!r}, the machine has "
            f"{hidden.num_units} hidden units"
        )
    estimator = BernoulliRBM(**parameters)
    estimator.components_ = np.ascontiguousarray(host.weights[0].W_T())
    estimator.intercept_visible_ = visible.params[0]
    estimator.intercept_hidden_ = hidden.params[0]
    chains = (estimator.batch_size, hidden.num_units)
    estimator.h_samples_ = np.zeros(chains, estimator.components_.dtype)
    estimator.n_features_in_ = visible.num_units
    estimator._n_features_out = hidden.num_units  # by which it names its outputs
    return estimator


# ---- which format


FORMATS: dict[str, tuple[Any, Any]] = {
    "npz": (read_npz, write_npz),
    "paysage": (read_paysage, write_paysage),
    "rbms": (read_rbms, write_rbms),
}
"""Reader and writer of each file format."""


def format_of(path: Any) -> str:
    """The format of a file by what is in it: "npz", "paysage" or "rbms".

    Raises
    ------
    ModelFileError
        No such file, or none of these.
    """
    with reading("format_of", path, "an NPZ or HDF5 file"):
        with open(path, "rb") as file:
            head = file.read(8)
        if head.startswith(ZIP_MAGIC):
            return "npz"
        if head == HDF5_MAGIC:
            return "rbms" if holds_rbms(path) else "paysage"
        raise ValueError(f"it begins with {head!r}")

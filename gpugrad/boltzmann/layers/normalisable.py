"""Which machines have a partition function.

Let x be the unbounded units, of energy 1/2 x.P.x + linear terms, P_ii = 1/var_i of a Gaussian unit,
1 of a ReLU unit, 0 of an exponential one, and P_ij = minus their coupling. Bounded neighbours only
shift the linear terms. exp(-E) can be summed where

* every unit whose energy grows linearly, like an exponential one, has a positive rate in the worst
  field that its bounded neighbours send; its couplings to units of both signs are 0, those to
  exponential and ReLU units are not positive (along a suitable direction the energy would fall
  without end);
* among Gaussian and ReLU units x.P.x is positive for all x of the allowed signs. With Gaussian
  units alone this is a positive definite P. ReLU units are not negative, so that entries of either
  sign are treated apart: the Gaussian units are integrated out, positive entries of what is left
  are set to 0 (they only raise the energy), and the result has to be positive definite. That is
  exact where no such entry was positive, as between two ReLU layers with W >= 0; else it is
  sufficient, and a machine that it cannot vouch for is refused.

An energy that grows faster than a square outweighs every coupling to others that grow at least like
a square. Users' own units (`EnergyLayer`) belong to one of these kinds by their values far out;
where only their log-partition function is known, their neighbours have to be bounded.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gpugrad.backend.array_module import asnumpy
from gpugrad.errors import NoPartitionFunctionError

__all__ = ["check_partition_function", "depends_on_parameters"]


def depends_on_parameters(layers: Sequence[Any], lateral: Collection[int] = ()) -> bool:
    """Whether some values of the parameters leave such a machine without a partition function.

    Parameters
    ----------
    layers : sequence of UnitLayer
    lateral : collection of int
        Numbers of the layers with lateral couplings.
    """
    if any(layer.open_tails or layer.growth == "linear" for layer in layers):
        return True
    if any(layers[i].growth != "bounded" for i in lateral):
        return True
    return any("bounded" not in (x.growth, y.growth) for x, y in pairwise(layers))


def check_partition_function(
    layers: Sequence[Any],
    weights: Sequence[Any],
    lateral: Mapping[int, Any] | None = None,
    *,
    function: str = "BoltzmannMachine",
) -> None:
    """Raise unless a machine of these layers and couplings has a partition function.

    Waits for the device where it has to look at the parameters.

    Parameters
    ----------
    layers : sequence of UnitLayer
    weights : sequence of Weights
        One a pair of neighbours.
    lateral : dict of Lateral, optional
        By number of the layer.
    function : str
        The name that the message carries.

    Raises
    ------
    NoPartitionFunctionError
        The message names the layers.
    """
    if not depends_on_parameters(layers, lateral or ()):
        return
    matrices = [asnumpy(w.W()).astype("float64") for w in weights]
    inside = {i: asnumpy(x.J()).astype("float64") for i, x in (lateral or {}).items()}
    growths = [_growth(function, layers, i) for i in range(len(layers))]
    for i, growth in enumerate(growths):
        if growth == "unknown":
            _check_unknown(function, layers, growths, inside, i)
        if growth == "linear":
            _check_rates(function, layers, growths, matrices, i)
            J = inside.get(i, np.zeros(()))
            if np.any(J > 0) or (layers[i].signed and np.any(J != 0)):
                raise NoPartitionFunctionError(
                    f"{function}: {_name(layers, i)} has no partition function if a lateral "
                    f"coupling is positive; the largest is {np.max(J):g}, expected at "
                    f"{'' if layers[i].signed else 'most '}0"
                )
    _check_precision(function, layers, growths, matrices, inside)


def _name(layers: Sequence[Any], i: int) -> str:
    return f"layers[{i}] ({layers[i].layer_type})"


def _growth(function: str, layers: Sequence[Any], i: int) -> str:
    try:
        return layers[i].growth
    except NoPartitionFunctionError as error:
        raise NoPartitionFunctionError(f"{function}: {_name(layers, i)}: {error}") from error


def _check_unknown(function: str, layers: Any, growths: Any, inside: Any, i: int) -> None:
    """A layer of which only the log-partition function is known has bounded neighbours."""
    near = [j for j in (i - 1, i + 1) if 0 <= j < len(layers) and growths[j] != "bounded"]
    if near or i in inside:
        raise NoPartitionFunctionError(
            f"{function}: {_name(layers, i)} has neither a support nor an interval: whether there "
            "is a partition function is not known, expected bounded neighbours and no lateral "
            f"couplings, found {', '.join(_name(layers, j) for j in near) or 'lateral ones'}"
        )


def _check_rates(function: str, layers: Any, growths: Any, matrices: Any, i: int) -> None:
    """The conditions on the layer i, whose energy grows linearly."""
    for sign, rate in layers[i].tail_rates():
        _check_rate(function, layers, growths, matrices, i, sign, rate)


def _check_rate(
    function: str, layers: Any, growths: Any, matrices: Any, i: int, sign: float, rate: Any
) -> None:
    """Towards the infinite end of that sign, where the energy rises at that rate."""
    for j in (i - 1, i + 1):
        if not 0 <= j < len(layers):
            continue
        neighbour = layers[j]
        W = sign * (matrices[j].T if j < i else matrices[i])  # (units of i, units of j)
        pair = f"{_name(layers, min(i, j))} and {_name(layers, max(i, j))}"
        if growths[j] == "bounded":
            rate = rate - neighbour.largest_field(W)
        elif neighbour.signed:
            if np.any(W != 0):
                raise NoPartitionFunctionError(
                    f"{function}: {pair} have no partition function together unless their weights "
                    f"are all 0; the largest is {np.max(np.abs(W)):g}"
                )
        elif np.any(W > 0):
            raise NoPartitionFunctionError(
                f"{function}: {pair} have no partition function together if a weight is positive; "
                f"the largest is {np.max(W):g}, expected at most 0"
            )
    # not <=: a nan is refused as well
    if not np.all(rate > 0):
        unit = int(np.argmin(rate))
        raise NoPartitionFunctionError(
            f"{function}: the rate of unit {unit} of {_name(layers, i)} falls to {rate[unit]:g} in "
            "some states of its neighbours, expected a positive rate loc - W.x in all of them"
        )


def _check_precision(function: str, layers: Any, growths: Any, matrices: Any, inside: Any) -> None:
    """The condition on each run of neighbouring Gaussian and ReLU layers."""
    first = 0
    while first < len(layers):
        last = first
        while last < len(layers) and growths[last] == "quadratic":
            last += 1
        run = range(first, last)
        if len(run) > 1 or (run and first in inside):
            own = [inside.get(i) for i in run]
            if not _is_confined([layers[i] for i in run], matrices[first : last - 1], own):
                names = ", ".join(_name(layers, i) for i in run)
                raise NoPartitionFunctionError(
                    f"{function}: {names} have no partition function together with these weights: "
                    "their joint precision is not positive, expected smaller weights"
                )
        first = max(last, first + 1)


def _is_confined(layers: Any, matrices: Any, inside: Any) -> bool:
    sizes = [layer.num_units for layer in layers]
    place = np.concatenate([[0], np.cumsum(sizes)])
    scale = np.concatenate([layer.coupling_scale() for layer in layers])
    P = np.diag(np.concatenate([layer.precision() for layer in layers]))
    for i, W in enumerate(matrices):
        # couplings see x / var of a Gaussian unit
        rows, columns = slice(place[i], place[i + 1]), slice(place[i + 1], place[i + 2])
        P[rows, columns] = -scale[rows, None] * W * scale[columns]
        P[columns, rows] = P[rows, columns].T
    for i, J in enumerate(inside):
        if J is not None:
            own = slice(place[i], place[i + 1])
            P[own, own] -= scale[own, None] * J * scale[own]
    signed = np.repeat([layer.signed for layer in layers], sizes)
    if not np.all(np.isfinite(P)):
        return False
    if np.all(signed):
        return _positive_definite(P)
    rest = P[np.ix_(~signed, ~signed)]
    if np.any(signed):
        block = P[np.ix_(signed, signed)]
        if not _positive_definite(block):
            return False
        across = P[np.ix_(signed, ~signed)]
        rest = rest - across.T @ np.linalg.solve(block, across)
    diagonal = np.diag(rest)
    rest = np.minimum(rest, 0)
    np.fill_diagonal(rest, diagonal)
    return _positive_definite(rest)


def _positive_definite(P: np.ndarray) -> bool:
    # scaled to a unit diagonal, so that the rounding of wide and narrow units does not matter
    diagonal = np.diag(P)
    if not np.all(diagonal > 0):
        return False
    root = 1 / np.sqrt(diagonal)
    try:
        np.linalg.cholesky(P * root[:, None] * root)
    except np.linalg.LinAlgError:
        return False
    return True

"""The half-update of Thouless-Anderson-Palmer magnetisations: one layer in its neighbours' fields.

A layer whose units have mean m, variance c and third cumulant k sends its neighbour the fields

    F = m.W        V = c.(W * W)        T = k.(W * W * W)                        (`tap_fields`)

(W^T in the other direction), all of them from one read of W. With the fields of all its neighbours
added up, and c', k' the derivatives of the cumulants with respect to m, a layer moves to

    x = bias + F + c'/2 V + k'/6 T        m <- m + (1 - damping) (mean(x) - m)   (`tap_update`)

    Bernoulli:  mean = sigmoid    c = m - m^2    k = c (1 - 2m)    c'/2 = 1/2 - m    k' = 1 - 6c
    Ising:      mean = tanh       c = 1 - m^2    k = -2m c         c'/2 = -m         k' = 4 - 6c

T is the third order and may be left out. The bodies below say what is computed; kernels/tap.cu does
it on a GPU.

References
----------
Gabrie, Tramel and Krzakala, "Training restricted Boltzmann machines via the
Thouless-Anderson-Palmer free energy", NIPS 2015.
Tramel, Gabrie, Manoel, Caltagirone and Krzakala, "Deterministic and generalized framework for
unsupervised learning with restricted Boltzmann machines", arXiv:1702.03260.
"""

from typing import Any

import numpy as np

from gpugrad.backend import cuda
from gpugrad.backend.array_module import device_of, get_array_module, on
from gpugrad.backend.twin import primitive
from gpugrad.errors import ParameterError
from gpugrad.primitives.gibbs import UNITS, is_floating, wide_type

__all__ = [
    "UNITS",
    "cumulants",
    "effective_field",
    "fields_call",
    "tap_fields",
    "tap_update",
    "update_call",
]

#: Weights whose powers are formed at a time: 1 MB of float32. Smaller blocks cut the products up,
#: which costs a second thread more than the cache gains; larger ones are memory, no time.
BLOCK_VALUES = 1 << 18

#: Thread blocks that a launch is cut into where the layers are small: twice the multiprocessors of
#: the largest device, so that the order of the sums does not depend on which one it is.
BLOCKS_WANTED = 264

#: Units of a tile of kernels/tap.cu, and seeds for each of its ROWS.
TILE_UNITS, TILE_SEEDS = 64, 16


def cumulants(unit: str, m: Any, order: int = 2) -> tuple[Any, ...]:
    """Mean, variance and, at third order, third cumulant of two-valued units of mean m.

    Parameters
    ----------
    unit : {"bernoulli", "ising"}
    m : array or Tensor
    order : {2, 3}

    Returns
    -------
    tuple of `order` arrays or Tensors

    Examples
    --------
    >>> from gpugrad.primitives.tap import cumulants
    >>> cumulants("bernoulli", 0.25, order=3)
    (0.25, 0.1875, 0.09375)
    """
    c = m - m * m if unit == "bernoulli" else 1 - m * m
    if order == 2:
        return m, c
    return m, c, c * (1 - 2 * m) if unit == "bernoulli" else -2 * m * c


def effective_field(unit: str, m: Any, bias: Any, fields: Any) -> Any:
    """bias + F + c'/2 V + k'/6 T, the field in which a unit without neighbours has its next mean.

    Parameters
    ----------
    unit : {"bernoulli", "ising"}
    m : array or Tensor (rows, units)
    bias : array or Tensor (units,)
    fields : sequence of two or three arrays or Tensors (rows, units)
        F, V and perhaps T, summed over the neighbours.
    """
    x = (0.5 - m if unit == "bernoulli" else -m) * fields[1]
    x += fields[0]
    x += bias
    if len(fields) > 2:
        _, c = cumulants(unit, m)
        x += ((1 if unit == "bernoulli" else 4) - 6 * c) / 6 * fields[2]
    return x


# ---- the fields


@primitive("tap_fields")
def _tap_fields(xp: Any, W: Any, *moments: Any, transposed: bool) -> tuple[Any, ...]:
    wide, (lower, upper) = moments[0].dtype, W.shape
    rows = moments[0].shape[0]
    as_it_is = W.dtype == wide
    fields: list[Any] = [None] * len(moments)
    if as_it_is:
        # a whole product is faster than its blocks
        fields[0] = xp.matmul(moments[0], W.T if transposed else W)
    block = max(1, BLOCK_VALUES // upper)
    if transposed:
        fields = [xp.empty((rows, lower), wide) if f is None else f for f in fields]
    powers = xp.empty((min(block, lower), upper), wide)
    for start in range(0, lower, block):
        here = slice(start, min(start + block, lower))
        w = W[here] if as_it_is else W[here].astype(wide)
        power = powers[: here.stop - start]
        for p, moment in enumerate(moments):
            if p == 0 and as_it_is:
                continue
            if p == 1:
                xp.multiply(w, w, out=power)
            elif p > 1:
                xp.multiply(power, w, out=power)
            factor = power if p else w
            if transposed:
                fields[p][:, here] = xp.matmul(moment, factor.T)
            elif start == 0:
                fields[p] = xp.matmul(moment[:, here], factor)
            else:
                fields[p] += xp.matmul(moment[:, here], factor)
    return tuple(fields)


def tap_fields(W: Any, *moments: Any, transposed: bool = False) -> tuple[Any, ...]:
    """The products of a layer's moments with the powers of the weights, from one read of them.

    Parameters
    ----------
    W : array (lower units, upper units)
        float16, bfloat16, float32 or float64. Half types are computed in float32.
    *moments : two or three arrays (rows, lower units)
        Means, variances and perhaps third cumulants of the sending layer, a row a seed. Converted
        to the type of computation: float64 for weights of float64, else float32.
    transposed : bool
        The upper layer sends: moments are (rows, upper units).

    Returns
    -------
    tuple of arrays (rows, upper units), or (rows, lower units) if transposed
        ``moments[p] . W**(p + 1)``, as many as there are moments.

    Raises
    ------
    ParameterError
        For shapes or types that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.primitives.tap import tap_fields
    >>> W = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> mean, variance = np.array([[0.5, 0.5]]), np.array([[0.25, 0.25]])
    >>> [field.tolist() for field in tap_fields(W, mean, variance)]
    [[[2.0, 3.0]], [[2.5, 5.0]]]
    """
    if W.ndim != 2 or not W.size:
        raise ParameterError(f"tap_fields: W {W.shape}, expected (lower units, upper units)")
    if not is_floating(W.dtype):
        raise ParameterError(f"tap_fields: W of {W.dtype}, expected floating point")
    if len(moments) not in (2, 3):
        raise ParameterError(
            f"tap_fields: {len(moments)} moments, expected mean, variance and perhaps third"
            " cumulant"
        )
    depth = W.shape[1 if transposed else 0]
    for x in moments:
        if x.ndim != 2 or x.shape != (moments[0].shape[0], depth):
            raise ParameterError(
                f"tap_fields: moments {', '.join(str(m.shape) for m in moments)}, expected"
                f" (rows, {depth}) each (W {W.shape}, transposed={transposed})"
            )
    wide = wide_type(W.dtype)
    converted = (x.astype(wide, copy=False) for x in moments)
    return _tap_fields(W, *converted, transposed=bool(transposed))


# ---- the update


@primitive("tap_update")
def _tap_update(
    xp: Any, m: Any, bias: Any, *fields: Any, unit: str, damping: float, out: Any
) -> Any:
    x = effective_field(unit, m, bias, fields)
    x = xp.tanh(x, out=x) if unit == "ising" else xp.sigmoid(x)
    if damping == 0:
        if out is None:
            return x
        out[...] = x
        return out
    x -= m
    x *= 1 - damping
    return xp.add(x, m, out=x if out is None else out)


def tap_update(
    m: Any,
    bias: Any,
    *fields: Any,
    unit: str = "bernoulli",
    damping: float = 0.0,
    out: Any = None,
) -> Any:
    """New magnetisations of a layer in the fields of its neighbours.

    Parameters
    ----------
    m : array (rows, units)
        The magnetisations as they are, float32 or float64.
    bias : array (units,)
    *fields : two or three arrays (rows, units)
        What `tap_fields` gives, summed over the neighbouring layers.
    unit : {"bernoulli", "ising"}
    damping : float
        In [0, 1): the part of m that stays.
    out : array (rows, units), optional
        Of the dtype of m; may be m itself.

    Returns
    -------
    array (rows, units)

    Raises
    ------
    ParameterError
        For shapes or types that do not fit, an unknown unit, or a damping outside [0, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.primitives.tap import tap_update
    >>> m, zero = np.full((1, 2), 0.75), np.zeros((1, 2))
    >>> tap_update(m, np.zeros(2), zero, zero, damping=0.5).tolist()
    [[0.625, 0.625]]
    """
    if unit not in UNITS:
        raise ParameterError(f"tap_update: unit {unit!r}, expected 'bernoulli' or 'ising'")
    if m.ndim != 2 or m.dtype not in ("float32", "float64"):
        raise ParameterError(
            f"tap_update: m {m.shape} of {m.dtype}, expected (rows, units) of float32 or float64"
        )
    if bias.shape != m.shape[1:]:
        raise ParameterError(f"tap_update: bias {bias.shape}, expected {m.shape[1:]}")
    if len(fields) not in (2, 3) or any(f.shape != m.shape for f in fields):
        raise ParameterError(
            f"tap_update: fields {', '.join(str(f.shape) for f in fields)}, expected two or three"
            f" of {m.shape}"
        )
    if not 0 <= damping < 1:
        raise ParameterError(f"tap_update: damping is {damping!r}, expected a number in [0, 1)")
    if out is not None and (out.shape != m.shape or out.dtype != m.dtype):
        raise ParameterError(
            f"tap_update: out {out.shape} of {out.dtype}, expected {m.shape} of {m.dtype}"
        )
    bias, *fields = (x.astype(m.dtype, copy=False) for x in (bias, *fields))  # type: ignore[assignment]
    return _tap_update(m, bias, *fields, unit=unit, damping=float(damping), out=out)


# ---- the launchers of kernels/tap.cu


def _span(rows: int, units: int, depth: int, at_once: int, tile_depth: int) -> int:
    """Units of the sending layer in a part: all, or fewer where the tiles would be too few."""
    tiles = -(-units // TILE_UNITS) * -(-rows // (TILE_SEEDS * at_once))
    steps = -(-depth // tile_depth)
    # a part of fewer than four steps would be mostly the writing of its sums
    parts = max(1, min(BLOCKS_WANTED // tiles, steps // 4))
    return -(-steps // parts) * tile_depth


def fields_call(
    W: Any,
    moments: Any,
    *,
    transposed: bool,
    span: int | None = None,
    at_once: int | None = None,
    type_name: str | None = None,
) -> tuple[str, int, int, tuple[Any, ...]]:
    """The launch of `tap_fields` of kernels/tap.cu.

    Parameters
    ----------
    W : array (lower, upper), contiguous
    moments : two or three arrays (rows, depth), contiguous, of the type of computation
    transposed : bool
    span : int, optional
        Units of the sending layer that a part adds up, a multiple of the tile's depth; by the
        shapes if None.
    at_once : {1, 4}, optional
        ROWS of the kernel; by the number of rows if None.
    type_name : str, optional
        The CUDA type where an array of integers holds the bits of a type that NumPy lacks.

    Returns
    -------
    name : str
    parts : int
        Parts of the result that remain to be added up.
    threads : int
    args : tuple
        With None in the place of the fields, (parts, order, rows, units).
    """
    (lower, upper), (rows, depth) = W.shape, moments[0].shape
    units = lower if transposed else upper
    at_once = at_once or (1 if rows <= TILE_SEEDS else 4)
    tile_depth = 128 // moments[0].dtype.itemsize
    span = span or _span(rows, units, depth, at_once, tile_depth)
    parts = -(-depth // span)
    tiles = -(-units // TILE_UNITS) * -(-rows // (TILE_SEEDS * at_once)) * parts
    element = type_name or cuda.type_name("tap_fields", W.dtype)
    name = f"tap_fields<{element}, {len(moments)}, {int(transposed)}, {at_once}>"
    third = moments[2] if len(moments) > 2 else 0
    args = (
        W, np.int64(lower), np.int64(upper), moments[0], moments[1], third, np.int64(rows),
        None, np.int64(span),
    )  # fmt: skip
    return name, parts, tiles * cuda.THREADS, args


def update_call(
    m: Any, bias: Any, fields: Any, out: Any, *, unit: str, damping: float
) -> tuple[str, tuple[Any, ...]]:
    """The name of an instance of `tap_update` of kernels/tap.cu, and its arguments.

    Parameters
    ----------
    m, out : array (rows, units), contiguous
    bias : array (units,), contiguous
    fields : two or three arrays (rows, units), contiguous
    unit : {"bernoulli", "ising"}
    damping : float
    """
    name = f"tap_update<{cuda.type_name('tap_update', m.dtype)}, {UNITS.index(unit)}>"
    third = fields[2] if len(fields) > 2 else 0
    return name, (
        m, bias, fields[0], fields[1], third, m.dtype.type(damping), out,
        np.int64(m.size), np.int64(m.shape[1]),
    )  # fmt: skip


def _tap_fields_on_cuda(W: Any, *moments: Any, transposed: bool) -> tuple[Any, ...]:
    cp, rows, order = get_array_module(W), moments[0].shape[0], len(moments)
    units, wide = W.shape[0 if transposed else 1], moments[0].dtype
    with on(device_of(W)):
        fields = cp.empty((order, rows, units), wide)
        if fields.size:
            name, parts, threads, args = fields_call(
                cp.ascontiguousarray(W),
                [cp.ascontiguousarray(x) for x in moments],
                transposed=transposed,
            )
            partial = fields if parts == 1 else cp.empty((parts, *fields.shape), wide)
            args = tuple(partial if x is None else x for x in args)
            cuda.launch("tap.cu", name, W, threads, args)
            if parts > 1:
                cuda.launch(
                    "tap.cu",
                    f"add_parts<{cuda.type_name('tap_fields', wide)}>",
                    W,
                    fields.size,
                    (partial, fields, np.int64(fields.size), np.int64(parts)),
                )
        return tuple(fields[p] for p in range(order))


def _tap_update_on_cuda(
    m: Any, bias: Any, *fields: Any, unit: str, damping: float, out: Any
) -> Any:
    cp = get_array_module(m)
    with on(device_of(m)):
        m, bias, *rest = (cp.ascontiguousarray(x) for x in (m, bias, *fields))
        target = out if out is not None and out.flags.c_contiguous else cp.empty_like(m)
        name, args = update_call(m, bias, rest, target, unit=unit, damping=damping)
        cuda.launch("tap.cu", name, m, m.size, args)
        if out is not None and target is not out:
            out[...] = target
            target = out
    return target


_tap_fields.attach(_tap_fields_on_cuda, device="cuda")
_tap_update.attach(_tap_update_on_cuda, device="cuda")

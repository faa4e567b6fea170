"""CuPy's functions with NumPy's signatures and manners: the CuPy side of the vocabulary.

`helped(cp)` returns the functions that replace CuPy's own in the CuPy namespace. Each helper hides
one row of `gpugrad.backend.vocabulary.DIFFERENCES` and is used through `xp` only. The module `cp`
is an argument, so that nothing here imports CuPy.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from gpugrad.errors import DeviceMismatchError

__all__ = ["helped"]

_NOT_GIVEN: Any = np._NoValue


def _refuse_host(function_name: str, x: np.ndarray) -> None:
    raise DeviceMismatchError(
        f"{function_name}: got a host array ({x.dtype}, shape {x.shape}) with arrays on a GPU, "
        "expected one device; to_device() copies an array to another"
    )


def _operand(function_name: str, x: Any) -> Any:
    """Return what CuPy's functions take for `x`: host 0-d arrays as scalars, no other ones."""
    if isinstance(x, np.ndarray):
        if x.ndim:
            _refuse_host(function_name, x)
        return x[()]
    return x


def _on_device(cp: Any, function_name: str, x: Any) -> Any:
    """Return `x` as a device array: scalars and sequences are put there, host arrays refused."""
    if isinstance(x, cp.ndarray):
        return x
    if isinstance(x, np.ndarray):
        _operand(function_name, x)
    return cp.asarray(x)


def _mask(cp: Any, function_name: str, where: Any) -> Any:
    mask = _on_device(cp, function_name, where)
    if mask.dtype != np.bool_:
        raise TypeError(f"{function_name}: where has dtype {mask.dtype}, expected bool")
    return mask


def helped(cp: Any, elementwise: Iterable[str]) -> dict[str, Any]:
    """Return word -> function for every word in which CuPy must be helped.

    Parameters
    ----------
    cp : module
        `cupy`.
    elementwise : iterable of str
        The ufuncs' names.
    """
    functions: dict[str, Any] = {word: _ufunc(cp, word) for word in elementwise}
    functions |= _reductions(cp)
    functions |= _shaping(cp)
    functions |= _indexing(cp)
    functions |= _creation(cp)
    functions |= _running(cp)
    functions["solve"] = _solve(cp)
    functions["errstate"] = _errstate
    return functions


def _errstate(**kinds: str) -> AbstractContextManager[None]:
    """Do nothing: CuPy gives no floating-point warnings."""
    return nullcontext()


# ---------------------------------------------------------------------------------- linear algebra


def _solve(cp: Any) -> Callable[..., Any]:
    def solve(a: Any, b: Any) -> Any:
        if b.ndim == 1:
            return solve(a, b[:, None])[..., 0]
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return cp.linalg.solve(
            cp.broadcast_to(a, (*batch, *a.shape[-2:])), cp.broadcast_to(b, (*batch, *b.shape[-2:]))
        )

    return solve


# ------------------------------------------------------------------------------------ elementwise


def _ufunc(cp: Any, word: str) -> Callable[..., Any]:
    """Return the ufunc with `where=`, and with host 0-d arrays taken as scalars."""
    call = getattr(cp, word)
    nin, nout = call.nin, call.nout

    def ufunc(*args: Any, out: Any = None, where: Any = True, **options: Any) -> Any:
        if len(args) > nin:
            args, out = args[:nin], args[nin:]
        operands = [_operand(word, x) if isinstance(x, np.ndarray) else x for x in args]
        outs = out if isinstance(out, tuple) else (out,) * nout if out is None else (out,)
        for x in outs:
            if isinstance(x, np.ndarray):
                _refuse_host(word, x)
        if where is True:
            return call(*operands, out=out, **options)
        mask = _mask(cp, word, where)
        casting = options.get("casting", "same_kind")
        results = call(*operands, **options)
        written = [
            _select(cp, result, mask, target, casting)
            for result, target in zip(results if nout > 1 else (results,), outs, strict=True)
        ]
        return tuple(written) if nout > 1 else written[0]

    ufunc.__name__ = word
    return ufunc


def _select(cp: Any, result: Any, mask: Any, out: Any, casting: str) -> Any:
    if out is None:  # as in NumPy, what is not selected is whatever was there
        shape = np.broadcast_shapes(result.shape, mask.shape)
        return result if shape == result.shape else cp.broadcast_to(result, shape).copy()
    cp.copyto(out, result, casting=casting, where=mask)
    return out


# ------------------------------------------------------------------------------------- reductions


def _reduced_shape(shape: tuple[int, ...], axis: Any, keepdims: bool) -> tuple[int, ...]:
    axes = range(len(shape)) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    reduced = {a % len(shape) for a in axes}
    if keepdims:
        return tuple(1 if a in reduced else n for a, n in enumerate(shape))
    return tuple(n for a, n in enumerate(shape) if a not in reduced)


def _into(cp: Any, result: Any, out: Any) -> Any:
    if out is None:
        return result
    cp.copyto(out, result)
    return out


def _reductions(cp: Any) -> dict[str, Callable[..., Any]]:
    def summing(word: str, neutral: int, join: Callable[..., Any]) -> Callable[..., Any]:
        reduce = getattr(cp, word)

        def reduction(
            a: Any,
            axis: Any = None,
            dtype: Any = None,
            out: Any = None,
            keepdims: bool = False,
            initial: Any = _NOT_GIVEN,
            where: Any = True,
        ) -> Any:
            a = _on_device(cp, word, a)
            if where is not True:
                a = cp.where(_mask(cp, word, where), a, a.dtype.type(neutral))
            if initial is _NOT_GIVEN:
                return reduce(a, axis=axis, dtype=dtype, out=out, keepdims=keepdims)
            result = reduce(a, axis=axis, dtype=dtype, keepdims=keepdims)
            return _into(cp, join(result, result.dtype.type(initial)), out)

        return reduction

    def extreme(word: str, join: Callable[..., Any]) -> Callable[..., Any]:
        reduce = getattr(cp, word)

        def reduction(
            a: Any,
            axis: Any = None,
            out: Any = None,
            keepdims: bool = False,
            initial: Any = _NOT_GIVEN,
            where: Any = True,
        ) -> Any:
            a = _on_device(cp, word, a)
            if initial is _NOT_GIVEN:
                if where is not True:
                    raise ValueError(f"{word}: where needs initial, which is what nothing gives")
                return reduce(a, axis=axis, out=out, keepdims=keepdims)
            initial = a.dtype.type(initial)
            if where is not True:
                a = cp.where(_mask(cp, word, where), a, initial)
            if a.size:
                result = join(reduce(a, axis=axis, keepdims=keepdims), initial)
            else:
                result = cp.full(_reduced_shape(a.shape, axis, keepdims), initial, a.dtype)
            return _into(cp, result, out)

        return reduction

    def logical(word: str, neutral: bool) -> Callable[..., Any]:
        reduce = getattr(cp, word)

        def reduction(
            a: Any, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True
        ) -> Any:
            a = _on_device(cp, word, a)
            if where is not True:
                a = cp.where(_mask(cp, word, where), a.astype(np.bool_), neutral)
            return reduce(a, axis=axis, out=out, keepdims=keepdims)

        return reduction

    def mean(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        *,
        where: Any = True,
    ) -> Any:
        a = _on_device(cp, "mean", a)
        if where is True:
            return cp.mean(a, axis=axis, dtype=dtype, out=out, keepdims=keepdims)
        mask = _mask(cp, "mean", where)
        shape = np.broadcast_shapes(a.shape, mask.shape)
        if dtype is None:
            dtype = a.dtype if a.dtype.kind in "fc" else np.dtype(np.float64)
        dtype = np.dtype(dtype)
        working = np.dtype(np.float32) if dtype == np.float16 else dtype
        total = cp.sum(
            cp.where(mask, a, a.dtype.type(0)), axis=axis, dtype=working, keepdims=keepdims
        )
        count = cp.sum(cp.broadcast_to(mask, shape), axis=axis, keepdims=keepdims)
        return _into(cp, (total / count).astype(dtype), out)

    def arg(word: str) -> Callable[..., Any]:
        reduce = getattr(cp, word)

        def reduction(a: Any, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
            return reduce(_on_device(cp, word, a), axis=axis, out=out, keepdims=keepdims)

        return reduction

    return {
        "sum": summing("sum", 0, cp.add),
        "prod": summing("prod", 1, cp.multiply),
        "max": extreme("max", cp.maximum),
        "min": extreme("min", cp.minimum),
        "all": logical("all", True),
        "any": logical("any", False),
        "mean": mean,
        "argmax": arg("argmax"),
        "argmin": arg("argmin"),
    }


# -------------------------------------------------------------------------- selecting and shaping


def _shaping(cp: Any) -> dict[str, Callable[..., Any]]:
    def where(condition: Any, *branches: Any) -> Any:
        condition = _on_device(cp, "where", condition)
        return cp.where(condition, *(_operand("where", x) for x in branches))

    def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None) -> Any:
        low, high = _operand("clip", a_min), _operand("clip", a_max)
        return cp.clip(_on_device(cp, "clip", a), low, high, out=out)

    def reshape(a: Any, shape: Any, order: str = "C") -> Any:
        return cp.reshape(_on_device(cp, "reshape", a), shape, order=order)

    def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
        # Not every CuPy takes an array here, and all of them need its values on the host.
        counts = repeats.tolist() if isinstance(repeats, np.ndarray | cp.ndarray) else repeats
        return cp.repeat(_on_device(cp, "repeat", a), counts, axis)

    def sort(a: Any, axis: int | None = -1, kind: str | None = None) -> Any:
        return cp.sort(_on_device(cp, "sort", a), axis=axis)

    def argsort(a: Any, axis: int | None = -1, kind: str | None = None) -> Any:
        return cp.argsort(_on_device(cp, "argsort", a), axis=axis)

    def einsum(*operands: Any, out: Any = None, **options: Any) -> Any:
        checked = [_operand("einsum", x) for x in operands]
        return _into(cp, cp.einsum(*checked, **options), out)

    def matmul(x1: Any, x2: Any, /, out: Any = None, **options: Any) -> Any:
        for x in (x1, x2, out):
            if isinstance(x, np.ndarray):
                _refuse_host("matmul", x)
        for x in (x1, x2):
            if not getattr(x, "ndim", 0):
                raise ValueError(f"matmul: got an operand of no dimension ({x}), expected arrays")
        return cp.matmul(x1, x2, out=out, **options)

    return {
        "argsort": argsort,
        "clip": clip,
        "einsum": einsum,
        "matmul": matmul,
        "repeat": repeat,
        "reshape": reshape,
        "sort": sort,
        "where": where,
    }


def _creation(cp: Any) -> dict[str, Callable[..., Any]]:
    def guarded(word: str) -> Callable[..., Any]:
        make = getattr(cp, word)

        def creation(a: Any, *args: Any, **options: Any) -> Any:
            return make(_operand(word, a), *args, **options)

        return creation

    return {word: guarded(word) for word in ("array", "asarray", "ascontiguousarray")}


# ------------------------------------------------------------------------------- running extremes


def _running(cp: Any) -> dict[str, Callable[..., Any]]:
    def running(join: Callable[..., Any]) -> Callable[..., Any]:
        def scan(x: Any, axis: int) -> Any:
            # after each pass an element knows twice as many of those before it
            y = x.copy()
            head = (slice(None),) * (axis % x.ndim)
            distance = 1
            while distance < x.shape[axis]:
                later = (*head, slice(distance, None))
                y[later] = join(y[later], y[(*head, slice(-distance))])
                distance *= 2
            return y

        return scan

    return {"cummax": running(cp.maximum), "cummin": running(cp.minimum)}


# --------------------------------------------------------------------------------------- indexing


def _entries(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _index_array(cp: Any, entry: Any) -> Any:
    """Return the array that an entry of an index is, or None for slices, integers, None and `...`.

    Index arrays may come from the host, as in CuPy: they are small and often made there.
    """
    if isinstance(entry, cp.ndarray):
        return entry
    if isinstance(entry, list | tuple | np.ndarray | bool | np.bool_):
        array = np.asarray(entry)
        return array.astype(np.intp) if isinstance(entry, list) and not array.size else array
    return None


def _check_range(cp: Any, arrays: list[tuple[Any, int, int]]) -> None:
    """Raise IndexError if one of (indices, axis, length of the axis) is out of range.

    Indices on the host cost nothing; for those on the GPU one flag is waited for.
    """
    on_device = []
    for indices, axis, n in arrays:
        wrong = (indices >= n) | (indices < -n)
        if isinstance(indices, np.ndarray):
            if wrong.any():
                first = indices[wrong].flat[0]
                raise IndexError(f"index {first} is out of bounds for axis {axis} with size {n}")
        else:
            on_device.append((wrong.any(), axis, n))
    if on_device and bool(sum(flag for flag, _, _ in on_device) > 0):
        axis, n = next((axis, n) for flag, axis, n in on_device if bool(flag))
        raise IndexError(f"an index is out of bounds for axis {axis} with size {n}")


def _checked(cp: Any, shape: tuple[int, ...], index: Any) -> bool:
    """Check the index arrays against `shape`; return whether one is of integers."""
    entries = _entries(index)
    arrays = [_index_array(cp, entry) for entry in entries]
    used = sum(
        (array.ndim if array.dtype.kind == "b" else 1)
        if array is not None
        else entry is not None and entry is not Ellipsis
        for entry, array in zip(entries, arrays, strict=True)
    )
    axis, integers = 0, []
    for entry, array in zip(entries, arrays, strict=True):
        if array is None:
            axis += len(shape) - used if entry is Ellipsis else entry is not None
        elif array.dtype.kind == "b":
            axis += array.ndim
        else:
            if array.dtype.kind in "iu" and axis < len(shape):
                integers.append((array, axis, shape[axis]))
            axis += 1
    _check_range(cp, integers)
    return bool(integers)


def _indexing(cp: Any) -> dict[str, Callable[..., Any]]:
    def getitem(x: Any, index: Any) -> Any:
        _checked(cp, x.shape, index)
        return x[index]

    def put(x: Any, index: Any, value: Any) -> Any:
        value = _operand("put", value)
        if not _checked(cp, x.shape, index):
            result = x.copy()
            result[index] = value
            return result
        # Rank the writes in their order, let the highest rank at each place win, then select.
        #   x = [a b c]   index = [2 0 2]   ranks 1 2 3   ->   rank at places [2 0 3]
        places = cp.arange(x.size).reshape(x.shape)[index]
        value = cp.asarray(value).astype(x.dtype)
        while value.ndim > places.ndim and value.shape[0] == 1:
            value = value[0]
        value = cp.broadcast_to(value, places.shape).ravel()
        if not places.size:
            return x.copy()
        counting = np.uint32 if places.size < 2**32 else np.uint64
        rank = cp.zeros(x.size, counting)
        cp.maximum.at(rank, places.ravel(), cp.arange(1, places.size + 1, dtype=counting))
        written = rank > 0
        winner = cp.where(written, rank.astype(np.int64) - 1, 0)
        return cp.where(written, value[winner], x.ravel()).reshape(x.shape)

    def add_at(shape: Any, dtype: Any, index: Any, g: Any) -> Any:
        g = _operand("add_at", g)
        result = cp.zeros(shape, dtype)
        if not _checked(cp, result.shape, index):
            result[index] = g
            return result
        g = cp.asarray(g).astype(result.dtype)
        kind, size = result.dtype.kind, result.dtype.itemsize
        if kind == "c":
            cp.add.at(result.real, index, g.real)
            cp.add.at(result.imag, index, g.imag)
        elif kind == "i" and size == 8:  # the same bits: addition is modulo 2**64
            cp.add.at(result.view(np.uint64), index, g.view(np.uint64))
        elif kind in "biu" and size < 4:
            wide = cp.zeros(shape, np.int32)
            cp.add.at(wide, index, g.astype(np.int32))
            return wide.astype(result.dtype)
        else:
            cp.add.at(result, index, g)
        return result

    def take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise"):
        a = _on_device(cp, "take", a)
        n = a.size if axis is None else a.shape[axis]
        if isinstance(indices, list | tuple):
            indices = np.asarray(indices, np.intp)
        if mode == "raise":
            array = indices if isinstance(indices, cp.ndarray) else np.asarray(indices)
            _check_range(cp, [(array, axis or 0, n)])
        elif mode == "clip":
            indices = (indices if isinstance(indices, cp.ndarray) else np.asarray(indices)).clip(
                0, n - 1
            )
        elif mode != "wrap":
            raise ValueError(f'take: got mode {mode!r}, expected "raise", "wrap" or "clip"')
        return cp.take(a, indices if np.isscalar(indices) else cp.asarray(indices), axis, out)

    def take_along_axis(arr: Any, indices: Any, axis: int | None) -> Any:
        indices = _on_device(cp, "take_along_axis", indices)
        arr = _on_device(cp, "take_along_axis", arr)
        n = arr.size if axis is None else arr.shape[axis]
        _check_range(cp, [(indices, axis or 0, n)])
        return cp.take_along_axis(arr, indices, axis)

    return {
        "add_at": add_at,
        "getitem": getitem,
        "put": put,
        "take": take,
        "take_along_axis": take_along_axis,
    }

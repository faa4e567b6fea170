"""The stand-in's elementwise functions: CuPy's loops and keywords, NumPy's arithmetic."""

from typing import Any

import numpy as np

from tests.fake_cupy import indexing
from tests.fake_cupy.array import FUNCTIONS, check_device, convert, ndarray, wrap

_WEAK = {bool: 0, int: 1, float: 2, complex: 3}
_KIND_SCORE = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
# The dtypes that CUDA's atomics cover, by ufunc. NumPy's ufunc.at knows no such limit.
_WORDS = "iIlLqQ"
_SCATTER = {
    "add": _WORDS + "efd",
    "subtract": "iI",
    "maximum": _WORDS + "fd",
    "minimum": _WORDS + "fd",
    "bitwise_and": _WORDS,
    "bitwise_or": _WORDS,
    "bitwise_xor": _WORDS,
}


class ufunc:
    """See `cupy.ufunc`."""

    __module__ = "cupy"

    def __init__(self, word: str, name: str, nin: int, nout: int, types: list[str]) -> None:
        self._numpy = getattr(np, word)
        self.name = self.__name__ = name
        self.nin, self.nout, self.nargs = nin, nout, nin + nout
        self.types = types
        self._loops = [
            (tuple(map(np.dtype, ins)), tuple(map(np.dtype, outs)))
            for ins, outs in (loop.split("->") for loop in types)
        ]

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for x in args:
            if hasattr(x, "__cupy_override_elementwise_kernel__"):
                return x.__cupy_override_elementwise_kernel__(self, *args, **kwargs)
        out = kwargs.pop("out", None)
        dtype = kwargs.pop("dtype", None)
        casting = kwargs.pop("casting", "same_kind")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.name!r}, given {len(args)}.")
        inputs, outputs = args[: self.nin], args[self.nin :]
        if out is not None:
            if outputs:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            outputs = out if isinstance(out, tuple) else (out,)
            if len(outputs) != self.nout:
                raise ValueError("'out' must be a tuple of arrays, one entry per ufunc output")
        operands = [_operand(x) for x in inputs]
        targets = [None if x is None else _operand(x) for x in outputs]
        targets += [None] * (self.nout - len(targets))

        ins, outs = self._loop(operands, None if dtype is None else np.dtype(dtype))
        hosts = [
            x._host.astype(t) if isinstance(x, ndarray) else np.asarray(x, t)
            for x, t in zip(operands, ins, strict=True)
        ]
        with np.errstate(all="ignore"):
            results = self._numpy(*hosts)
        results = results if self.nout > 1 else (results,)
        shape = np.broadcast_shapes(
            *(x.shape for x in hosts), *(x.shape for x in targets if isinstance(x, ndarray))
        )
        written = tuple(
            _written(np.asarray(result, t), target, shape, casting)
            for result, t, target in zip(results, outs, targets, strict=True)
        )
        return written if self.nout > 1 else written[0]

    def _loop(self, operands: list[Any], dtype: np.dtype | None) -> Any:
        """Return the dtypes of the first loop that takes the operands (or that gives `dtype`)."""
        if dtype is not None:
            for ins, outs in self._loops:
                if all(t == dtype for t in outs):
                    return ins, outs
            raise TypeError(f"Wrong type ({dtype}) of arguments for {self.name}")
        # A Python scalar takes the arrays' dtype, unless its kind is higher than all of theirs.
        weak = [type(x) if type(x) in _WEAK else None for x in operands]
        dtypes = [
            np.asarray(x).dtype if w else x.dtype for x, w in zip(operands, weak, strict=True)
        ]
        scalars = [_WEAK[w] for w in weak if w]
        arrays = [_KIND_SCORE[t.kind] for t, w in zip(dtypes, weak, strict=True) if not w]
        if not (scalars and arrays and max(arrays) >= max(scalars)):
            weak = [None] * len(operands)
        for ins, outs in self._loops:
            if all(map(_takes, ins, dtypes, weak)):
                return ins, outs
        raise TypeError(f"Wrong type ({dtypes}) of arguments for {self.name}")

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        word = self._numpy.__name__
        if word not in _SCATTER:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        index, advanced = indexing.prepared(indices, a.shape, ndarray)
        source = convert(b)
        host = indexing.scalar_for(b, a.dtype) if source is None else check_device(source)._host
        mask_alone = len(index) == 1 and getattr(index[0], "dtype", None) == np.bool_
        if advanced and not mask_alone and a.dtype.char not in _SCATTER[word]:
            raise TypeError(f"cupy.{word}.at does not support {a.dtype} as data type")
        indexing.accumulate(self._numpy, a._host, index, host)

    def outer(self, A: Any, B: Any, **kwargs: Any) -> Any:
        A, B = FUNCTIONS["array"](A), FUNCTIONS["array"](B)
        return self(A.reshape(A.shape + (1,) * B.ndim), B, **kwargs)

    def reduce(
        self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        if self.name == "cupy_add":
            return array.sum(axis, dtype, out, keepdims)
        if self.name == "cupy_multiply":
            return array.prod(axis, dtype, out, keepdims)
        raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")

    def accumulate(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.name == "cupy_add":
            return array.cumsum(axis, dtype, out)
        if self.name == "cupy_multiply":
            return array.cumprod(axis, dtype, out)
        raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")

    def reduceat(
        self, array: Any, indices: Any, axis: Any = 0, dtype: Any = None, out: Any = None
    ) -> Any:
        raise NotImplementedError(f"`{self.name}.reduceat` is not supported yet")


def _operand(x: Any) -> Any:
    array = convert(x)
    if array is not None:
        return check_device(array)
    if type(x) in _WEAK or isinstance(x, np.generic):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _takes(loop: np.dtype, given: np.dtype, weak: type | None) -> bool:
    if np.can_cast(given, loop):
        return True
    if weak is None:
        return False
    try:
        return np.result_type(weak(0), loop) == loop
    except TypeError:
        return False


def _written(result: np.ndarray, out: Any, shape: tuple[int, ...], casting: str) -> ndarray:
    if out is None:
        return wrap(np.broadcast_to(result, shape).copy() if result.shape != shape else result)
    if not isinstance(out, ndarray):
        raise TypeError("Output arguments type must be cupy.ndarray")
    if out.shape != shape:
        raise ValueError("Out shape is mismatched")
    if not np.can_cast(result.dtype, out.dtype, casting):  # type: ignore[arg-type]
        raise TypeError(f"Cannot cast output operand from {result.dtype} to {out.dtype}")
    with np.errstate(all="ignore"):
        out._host[...] = result
    return out


class matmul:
    """See `cupy.matmul`: a generalised ufunc, which asks no argument to take over."""

    __module__ = "cupy"
    __name__ = "matmul"

    def __call__(
        self,
        x1: Any,
        x2: Any,
        /,
        out: Any = None,
        *,
        axes: Any = None,
        axis: Any = None,
        keepdims: bool = False,
        casting: str = "same_kind",
        dtype: Any = None,
        signature: Any = None,
        order: str = "K",
    ) -> Any:
        for x in (x1, x2):
            if not isinstance(x, ndarray):
                raise TypeError(f"Unsupported type {type(x)}")
            check_device(x)
        if out is not None and not isinstance(out, ndarray):
            raise TypeError("`out` must be a tuple or `cupy.ndarray`")
        with np.errstate(all="ignore"):
            result = np.matmul(x1._host, x2._host, dtype=dtype)
            if out is None:
                return wrap(result)
            return _written(np.asarray(result), out, np.shape(result), casting)

"""Sampling the units of a layer in the field of its neighbours.

    logit = beta * (field + bias)
    Bernoulli:  mean = 1 / (1 + exp(-logit)),   1 where u < mean, else 0
    Ising:      mean = tanh(logit),            +1 where u < 1 / (1 + exp(-2 logit)), else -1

`field` is the product of the neighbouring units with the weights; everything after that product
is one pass over it. The body below says what is computed; the host launcher computes the same in
blocks that stay in a core's cache, on two threads; kernels/gibbs.cu is the GPU's.
"""

import threading
from typing import Any

import numpy as np

import gpugrad.primitives.philox  # noqa: F401  (gives the generator its kernels)
from gpugrad.backend import cuda
from gpugrad.backend.array_module import get_array_module
from gpugrad.backend.blas_threads import held_to_one
from gpugrad.backend.host_threads import (
    allowed_threads,
    available_cpus,
    over_spans,
    scratch_array,
)
from gpugrad.backend.philox import COUNTER_PERIOD, Draw, HostStream, host_stream, random_words
from gpugrad.backend.twin import primitive
from gpugrad.errors import ParameterError

__all__ = ["UNITS", "field_bits", "sample_units", "unit_uniforms"]

UNITS = ("bernoulli", "ising")

#: Units in a block that the host works on at a time. Larger than a random fill's blocks: a block is
#: some twenty calls of NumPy, whose fixed cost was a quarter of the time with blocks of 32768.
BLOCK_VALUES = 131072


def lower_draw(draw: Draw) -> Draw:
    """Where the lower bits of a draw's uniforms lie.

    They take two blocks for each of the draw's own: with its counter doubled, those of different
    draws are different, and half the period away no generator ever hands them out.
    """
    return Draw(draw.key, 2 * draw.counter + COUNTER_PERIOD // 2)


def wide_type(dtype: Any) -> np.dtype:
    """The type that a field of `dtype` is computed in: float64 for float64, else float32."""
    return np.dtype(np.float64 if np.dtype(dtype).itemsize == 8 else np.float32)


def field_bits(dtype: Any) -> int:
    """Random bits per unit for a field of `dtype`: what `Generator.reserve` must be asked for."""
    return 16


def unit_uniforms(xp: Any, draw: Draw, n: int) -> Any:
    """The 48-bit uniforms in [0, 1) that `n` units are compared with, float64 of shape (n,).

    Uniform ``i`` is ``(2^32 a + b) / 2^48``: `a` is the 16-bit quarter ``i % 4`` (lowest first) of
    word ``(i % 16) // 4`` of the draw's block ``i // 16``, `b` the half ``i % 2`` of word
    ``(i % 8) // 2`` of block ``i // 8`` of `lower_draw`. Since `a` alone decides all but one
    comparison in 65536, a launcher needs half of the random words that 32-bit uniforms would cost,
    and computes `b` only for those.
    """
    words = random_words(xp, draw, -(-n // 16))
    upper = xp.stack([words >> xp.uint64(16 * i) & xp.uint64(0xFFFF) for i in range(4)], axis=2)
    words = random_words(xp, lower_draw(draw), -(-n // 8))
    lower = xp.stack([words & xp.uint64(0xFFFFFFFF), words >> xp.uint64(32)], axis=2)
    value = (upper.ravel()[:n] << xp.uint64(32)) + lower.ravel()[:n]
    return value.astype(np.float64) * 2.0**-48


def is_floating(dtype: Any) -> bool:
    """Whether `dtype` is a floating point type, bfloat16 of ml_dtypes included."""
    return np.dtype(dtype).kind == "f" or np.dtype(dtype).name == "bfloat16"


def check_arguments(
    field: Any, bias: Any, beta: Any, unit: str, outputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Raise for arguments that do not fit together; return ``(sample_out, mean_out)``."""
    if unit not in UNITS:
        raise ParameterError(f"sample_units: unit {unit!r}, expected 'bernoulli' or 'ising'")
    if field.ndim != 2:
        raise ParameterError(f"sample_units: field {field.shape}, expected (chains, units)")
    if not is_floating(field.dtype):
        raise ParameterError(f"sample_units: field of {field.dtype}, expected floating point")
    chains, units = field.shape
    if bias is not None and bias.shape != (units,):
        raise ParameterError(f"sample_units: bias {bias.shape}, expected ({units},)")
    shape = getattr(beta, "shape", ())
    if shape not in ((), (1,), (1, 1), (chains, 1), (chains,)):
        raise ParameterError(f"sample_units: beta {shape}, expected a number or ({chains}, 1)")
    for out in outputs:
        if out is not None and out.shape != field.shape:
            raise ParameterError(f"sample_units: out {out.shape}, expected {field.shape}")
    return outputs


def _outputs(out: Any, sample: bool, mean: bool) -> tuple[Any, Any]:
    if isinstance(out, tuple):
        if len(out) != 2:
            raise ParameterError(f"sample_units: out of {len(out)} arrays, expected 2")
        return out
    return (out, None) if sample else (None, out)


@primitive("sample_units")
def _sample_units(
    xp: Any,
    field: Any,
    bias: Any,
    beta: Any,
    *,
    unit: str,
    draw: Draw | None,
    outputs: tuple[Any, Any],
    sample: bool,
    mean: bool,
    dtype: Any,
) -> tuple[Any, Any]:
    wide = wide_type(field.dtype)
    logit = field.astype(wide)
    if bias is not None:
        logit = logit + bias.astype(wide)
    if beta is not None:
        logit = logit * (beta.astype(wide) if hasattr(beta, "astype") else beta)
    # exp overflows to inf, whose reciprocal is the right probability, 0.
    with np.errstate(over="ignore"):
        chance = 1 / (1 + xp.exp(logit * -1 if unit == "bernoulli" else logit * -2))
    sample_out, mean_out = outputs
    drawn = averaged = None
    if mean:
        averaged = (chance if unit == "bernoulli" else xp.tanh(logit)).astype(dtype)
        if mean_out is not None:
            mean_out[...] = averaged
            averaged = mean_out
    if sample:
        assert draw is not None
        u = unit_uniforms(xp, draw, field.size).reshape(field.shape)
        drawn = (u < chance).astype(dtype)
        if unit == "ising":
            drawn = drawn * drawn.dtype.type(2) - drawn.dtype.type(1)
        if sample_out is not None:
            sample_out[...] = drawn
            drawn = sample_out
    return drawn, averaged


def sample_units(
    field: Any,
    bias: Any = None,
    *,
    unit: str = "bernoulli",
    draw: Draw | None = None,
    beta: Any = None,
    sample: bool = True,
    mean: bool = False,
    out: Any = None,
    dtype: Any = None,
) -> tuple[Any, Any]:
    """Sample the units of a layer, their means, or both, given the field on them.

    Parameters
    ----------
    field : array, shape (chains, units)
        What the neighbours send: their units times the weights. float16, bfloat16, float32 or
        float64; half types are computed in float32.
    bias : array, shape (units,), optional
        Added to every row of the field.
    unit : {"bernoulli", "ising"}
        Units with values 0 and 1, or -1 and +1.
    draw : Draw, optional
        Where the random numbers come from: ``rng.reserve(field.size, field_bits(field.dtype))``.
        Unit j of chain i uses value ``i * units + j`` of `unit_uniforms`. Needed when `sample` is
        true.
    beta : float or array, shape (chains, 1), optional
        Inverse temperature, multiplying field and bias alike.
    sample, mean : bool
        What to compute.
    out : array or tuple of two arrays, optional
        Where to write: the sample (the mean, when `sample` is false), or a tuple
        ``(sample, mean)`` in which either may be None. Shape of `field`, any real dtype. It may
        be `field` itself, but must not overlap it otherwise.
    dtype : dtype, optional
        Of results that have no `out`; the default is the field's.

    Returns
    -------
    sample : array of shape (chains, units) or None
    mean : array of shape (chains, units) or None
        The expectation of the units: in [0, 1] for Bernoulli, in [-1, 1] for Ising units. Where
        ``exp(-logit)`` overflows, a mean below the smallest normal number, it is 0.

    Raises
    ------
    ParameterError
        For shapes or types that do not fit, an unknown unit, or a sample without a draw.

    Examples
    --------
    >>> import numpy as np
    >>> from gpugrad.primitives.gibbs import sample_units
    >>> _, mean = sample_units(np.zeros((2, 3)), sample=False, mean=True)
    >>> mean.tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    outputs = _outputs(out, sample, mean)
    check_arguments(field, bias, beta, unit, outputs)
    if sample and draw is None:
        raise ParameterError("sample_units: draw is None, expected a Draw to sample with")
    if beta is not None and getattr(beta, "ndim", 0) == 1 and beta.shape != (1,):
        beta = beta.reshape(-1, 1)
    return _sample_units(
        field,
        bias,
        beta,
        unit=unit,
        draw=draw,
        outputs=outputs,
        sample=sample,
        mean=mean,
        dtype=field.dtype if dtype is None else dtype,
    )


def _sample_units_on_host(
    field: np.ndarray,
    bias: np.ndarray | None,
    beta: Any,
    *,
    unit: str,
    draw: Draw | None,
    outputs: tuple[np.ndarray | None, np.ndarray | None],
    sample: bool,
    mean: bool,
    dtype: Any,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    chains, units = field.shape
    drawn, averaged = outputs
    if sample and drawn is None:
        drawn = np.empty(field.shape, dtype)
    if mean and averaged is None:
        averaged = np.empty(field.shape, dtype)
    if field.size == 0:
        return (drawn if sample else None), (averaged if mean else None)
    wide, ising = wide_type(field.dtype), unit == "ising"
    # The sign of the exponent goes into the bias: -(f + b) = (-b) - f exactly.
    minus_bias = np.zeros((), wide) if bias is None else np.negative(bias, dtype=wide)
    # Sixteen rows hold a whole number of Philox blocks, so that each block of rows starts one.
    rows = max(16, BLOCK_VALUES // units // 16 * 16)
    if beta is not None:
        beta = np.broadcast_to(np.asarray(beta, dtype=wide).reshape(-1, 1), (chains, 1))

    def span(first: int, last: int) -> None:
        shape = (min(rows, last - first), units)
        if sample:
            assert draw is not None
            host_stream.at(draw, first * units, 16)
        with np.errstate(over="ignore"):
            for start in range(first, last, rows):
                here = slice(start, min(start + rows, last))
                x = scratch_array("logit", shape, wide)[: here.stop - start]
                np.subtract(minus_bias, field[here], out=x, dtype=wide)
                if beta is not None:
                    np.multiply(x, beta[here], out=x)
                if ising and mean:
                    assert averaged is not None
                    y = scratch_array("mean", shape, wide)[: here.stop - start]
                    np.tanh(np.negative(x, out=y), out=averaged[here], casting="unsafe")
                if ising and sample:
                    np.multiply(x, 2, out=x)
                if sample or not ising:
                    np.exp(x, out=x)
                    np.add(x, 1, out=x)
                if mean and not ising:
                    assert averaged is not None
                    np.divide(1, x, out=averaged[here], casting="unsafe")
                if sample:
                    assert drawn is not None and draw is not None
                    np.divide(65536, x, out=x)
                    below = _below(x, draw, start * units)
                    np.copyto(drawn[here], below, casting="unsafe")
                    if ising:
                        np.multiply(drawn[here], 2, out=drawn[here])
                        np.subtract(drawn[here], 1, out=drawn[here])

    over_spans(span, chains, values_each=units, multiple_of=16, threads=_threads())
    return (drawn if sample else None), (averaged if mean else None)


def _threads() -> int:
    # After a product the BLAS threads spin on the other CPUs. Where there is only one other, the
    # scheduler puts the second thread beside this one, and nothing is won.
    return allowed_threads() if available_cpus() > 2 or held_to_one() else 1


def _below(x: np.ndarray, draw: Draw, first: int) -> np.ndarray:
    """Whether uniform ``first + i`` of the draw lies below ``x[i] / 65536``, x in [0, 65536].

    The stream of this thread stands at `first`. With `a` the upper 16 bits of the uniform the
    answer is yes where ``x - a >= 1`` and no where ``x - a <= 0``; only in between, once in 65536
    units, are the lower bits computed. The difference is exact wherever it is not negative. `x`
    is overwritten.
    """
    upper = host_stream.bits.random_raw(-(-x.size // 4)).view(np.uint16)[: x.size]
    a = scratch_array("upper", x.shape, x.dtype)
    np.copyto(a.reshape(-1), upper)
    np.subtract(x, a, out=x)
    # Eight flags at a time are compared as one integer: the flags beyond the last are made equal.
    padded = (-(-x.size // 8) * 8,)
    surely, perhaps = (
        scratch_array(name, padded, np.dtype(bool)) for name in ("surely", "perhaps")
    )
    surely[x.size :] = perhaps[x.size :] = False
    below = surely[: x.size].reshape(x.shape)
    np.greater_equal(x, 1, out=below)
    np.greater(x, 0, out=perhaps[: x.size].reshape(x.shape))
    for eight in np.flatnonzero(surely.view(np.uint64) != perhaps.view(np.uint64)):
        for i in range(8 * int(eight), 8 * int(eight) + 8):
            if perhaps[i] and not surely[i]:
                surely[i] = refining_stream.word(draw, first + i) < float(x.flat[i]) * 2.0**32
    return below


class _RefiningStream(threading.local):
    """The lower bits of single uniforms, from a stream of its own for each thread."""

    def __init__(self) -> None:
        self.stream = HostStream()

    def word(self, draw: Draw, i: int) -> int:
        """The 32 lower bits of uniform `i` of a draw."""
        block, rest = divmod(i, 8)
        self.stream.at(lower_draw(draw), 8 * block, 32)
        return int(self.stream.bits.random_raw(4)[rest // 2]) >> 32 * (rest % 2) & 0xFFFFFFFF


refining_stream = _RefiningStream()

_sample_units.attach(_sample_units_on_host, device="cpu")


def kernel_call(
    field: Any,
    bias: Any = None,
    beta: Any = None,
    *,
    unit: str,
    draw: Draw | None = None,
    state: Any = None,
    sample: Any = None,
    mean: Any = None,
    units: int | None = None,
    copies: int = 1,
    copy_stride: int = 0,
    beta_step_stride: int = 0,
    sample_type: str | None = None,
    field_type: str | None = None,
) -> tuple[str, tuple[Any, ...]]:
    """The name of the instance of kernels/gibbs.cu for some arrays, and its arguments.

    Parameters
    ----------
    field, sample, mean : array, contiguous, shape (chains, row length)
        Of each row the first `units` values are used; `sample` or `mean` may be None.
    bias : array, shape (units,), of the type that the field is computed in
    beta : array of that type, contiguous, optional
        With one element, the same for all chains; else one for each.
    draw : Draw, optional
    state : array of uint64, shape (8,), optional
        Device memory that stands for the draw and is advanced by the kernel: see the kernel.
    units : int, optional
        The default is the row length of the field.
    copies, copy_stride : int
        The sample is written `copies` times, each `copy_stride` values after the last.
    beta_step_stride : int
        Values of beta from one step to the next.
    sample_type, field_type : str, optional
        CUDA types where arrays of integers hold the bits of a type that NumPy lacks.

    Returns
    -------
    name : str
    args : tuple
    """
    chains, field_stride = field.shape
    units = field_stride if units is None else units
    field_type = field_type or cuda.type_name("sample_units", field.dtype)
    mean_type = field_type if mean is None else cuda.type_name("sample_units", mean.dtype)
    if sample is None:
        sample_type = field_type
    elif sample_type is None:
        sample_type = cuda.type_name("sample_units", sample.dtype)
    sample_stride = 0 if sample is None else sample.shape[1]
    mean_stride = 0 if mean is None else mean.shape[1]
    arrays = [a for a in (field, bias, sample, mean) if a is not None]
    vector = all(n % 4 == 0 for n in (units, field_stride, sample_stride, mean_stride, copy_stride))
    vector = vector and all(cuda.pointer(a) % 16 == 0 for a in arrays)
    name = f"sample_units<{field_type}, {sample_type}, {mean_type}, {UNITS.index(unit)}>"
    beta_stride = 0 if beta is None or beta.size == 1 or beta_step_stride == 1 else 1
    args = (
        field,
        np.int64(field_stride),
        0 if bias is None else bias,
        0 if beta is None else beta,
        np.int64(beta_stride),
        np.int64(beta_step_stride),
        0 if sample is None else sample,
        np.int64(sample_stride),
        np.int64(copies),
        np.int64(copy_stride),
        0 if mean is None else mean,
        np.int64(mean_stride),
        np.int64(chains),
        np.int64(units),
        np.int32(vector),
        0 if state is None else state,
        *cuda.draw_arguments(Draw((0, 0), 0) if draw is None else draw),
    )
    return name, args


def _sample_units_on_cuda(
    field: Any,
    bias: Any,
    beta: Any,
    *,
    unit: str,
    draw: Draw | None,
    outputs: tuple[Any, Any],
    sample: bool,
    mean: bool,
    dtype: Any,
) -> tuple[Any, Any]:
    cp = get_array_module(field)
    wide = wide_type(field.dtype)
    field = cp.ascontiguousarray(field)
    if bias is not None:
        bias = cp.ascontiguousarray(bias).astype(wide, copy=False)
    if beta is not None:
        if not hasattr(beta, "ndim") or beta.ndim == 0:
            beta = cp.full((1,), beta, dtype=wide)
        beta = cp.ascontiguousarray(beta).astype(wide, copy=False)
    targets = []
    for wanted, out in zip((sample, mean), outputs, strict=True):
        direct = out is not None and out.flags.c_contiguous and is_floating(out.dtype)
        fresh = dtype if out is None or not is_floating(out.dtype) else out.dtype
        fresh = fresh if is_floating(fresh) else field.dtype
        targets.append((out if direct else cp.empty(field.shape, fresh)) if wanted else None)
    name, args = kernel_call(
        field, bias, beta, unit=unit, draw=draw, sample=targets[0], mean=targets[1]
    )
    cuda.launch("gibbs.cu", name, field, -(-field.size // 16), args)
    results = []
    for target, out in zip(targets, outputs, strict=True):
        if target is not None and out is not None and out is not target:
            out[...] = target
            target = out
        elif target is not None and target.dtype != dtype and out is None:
            target = target.astype(dtype)
        results.append(target)
    return results[0], results[1]


_sample_units.attach(_sample_units_on_cuda, device="cuda")

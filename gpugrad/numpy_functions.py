"""What becomes of each of NumPy's functions when it is given a tensor: one table.

    supported     gpugrad has a function of that name (or a row in `gpugrad.protocols.ADAPTED`): it
                  is called, and the gradient is kept
    ANSWERED      the value has no derivative: NumPy's answer about the arrays
    NO_GRADIENT   there is a derivative, but gpugrad has no rule for it, or the function writes
                  into arrays: NumPy's answer for constants, TypeError for a tensor that takes
                  gradients, so that none is lost without a word

Functions of strings and dates (`of_numbers` tells them) are as those in NO_GRADIENT. So is a
function that a later NumPy adds, until it has a row here.

Names are those under which NumPy's protocol knows a function, without the leading "numpy.".
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["ANSWERED", "NO_GRADIENT", "of_numbers", "path_of"]

# Counts, places, booleans, shapes, types, text and files.
ANSWERED = frozenset(
    """
    all allclose any argmax argmin argpartition argsort argwhere array2string array_equal
    array_equiv array_repr array_str can_cast common_type count_nonzero diag_indices_from digitize
    einsum_path flatnonzero in1d isclose iscomplex iscomplexobj isin isneginf isposinf isreal
    isrealobj lexsort linalg.matrix_rank may_share_memory min_scalar_type nanargmax nanargmin ndim
    nonzero packbits ravel_multi_index result_type save savetxt savez savez_compressed searchsorted
    shape shares_memory size tril_indices_from triu_indices_from unpackbits unravel_index
    equal greater greater_equal isfinite isinf isnan less less_equal logical_and logical_not
    logical_or logical_xor not_equal signbit
    _ones_like bitwise_and bitwise_count bitwise_or bitwise_xor gcd invert lcm left_shift
    right_shift
    """.split()
)

NO_GRADIENT = frozenset(
    """
    angle append apply_along_axis apply_over_axes around asanyarray ascontiguousarray
    asfortranarray astype average block broadcast_arrays choose compress convolve
    corrcoef correlate cov delete dsplit ediff1d extract fix
    gradient hsplit i0 imag insert ix_
    meshgrid nan_to_num nancumprod nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanprod
    nanquantile nanstd nansum nanvar percentile piecewise quantile real real_if_close
    require resize rollaxis round select sort_complex trapezoid trim_zeros
    unstack unwrap vander vsplit
    array asarray copy frombuffer fromfile fromfunction fromiter fromstring genfromtxt loadtxt tri
    bincount histogram histogram2d histogram_bin_edges histogramdd
    intersect1d setdiff1d setxor1d union1d unique unique_all unique_counts unique_inverse
    unique_values
    poly polyadd polyder polydiv polyfit polyint polymul polysub polyval roots
    fill_diagonal place put put_along_axis putmask
    busday_count busday_offset datetime_as_string is_busday
    cumulative_prod cumulative_sum
    ceil conjugate
    divmod float_power floor floor_divide fmod frexp heaviside ldexp
    matvec modf nextafter remainder rint sign spacing trunc
    vecdot vecmat
    lib.scimath.arccos lib.scimath.arcsin lib.scimath.arctanh lib.scimath.log lib.scimath.log10
    lib.scimath.log2 lib.scimath.logn lib.scimath.power lib.scimath.sqrt
    lib.stride_tricks.sliding_window_view
    linalg.cond linalg.eig linalg.eigvals
    linalg.lstsq linalg.matrix_norm
    linalg.tensorinv linalg.tensorsolve linalg.vecdot
    linalg.vector_norm
    fft.fft fft.fft2 fft.fftn fft.fftshift fft.hfft fft.ifft fft.ifft2 fft.ifftn fft.ifftshift
    fft.ihfft fft.irfft fft.irfft2 fft.irfftn fft.rfft fft.rfft2 fft.rfftn
    polynomial.polynomial.polygrid2d polynomial.polynomial.polyval2d
    polynomial.polynomial.polyvalnd
    lib.recfunctions.append_fields lib.recfunctions.apply_along_fields
    lib.recfunctions.assign_fields_by_name lib.recfunctions.drop_fields
    lib.recfunctions.find_duplicates lib.recfunctions.join_by lib.recfunctions.merge_arrays
    lib.recfunctions.rec_append_fields lib.recfunctions.rec_drop_fields lib.recfunctions.rec_join
    lib.recfunctions.recursive_fill_fields lib.recfunctions.rename_fields
    lib.recfunctions.repack_fields lib.recfunctions.require_fields lib.recfunctions.stack_arrays
    lib.recfunctions.structured_to_unstructured lib.recfunctions.unstructured_to_structured
    """.split()
)


def path_of(function: Any) -> str:
    """The name of one of NumPy's functions: "sum", "linalg.norm"."""
    if isinstance(function, np.ufunc):
        return function.__name__
    module = (getattr(function, "__module__", None) or "").partition(".")[2]
    if module == "lib._scimath_impl":  # where NumPy 2.0 says that they are
        module = "lib.scimath"
    return f"{module}.{function.__name__}" if module else function.__name__


def of_numbers(function: Any) -> bool:
    """Whether one of NumPy's functions takes floats or integers."""
    if isinstance(function, np.ufunc):
        return any(
            kind in "efdgbhilq" for loop in function.types for kind in loop.partition("->")[0]
        )
    return path_of(function).partition(".")[0] not in ("char", "rec", "strings")

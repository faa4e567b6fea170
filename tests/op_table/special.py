"""Special functions of statistics. The reference is SciPy's functions of complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special

from tests.op_table.elementwise import rows_of
from tests.op_table.row import POSITIVE, REAL, Elementwise, Operand, Row, formula, method

__all__ = ["ELEMENTWISE", "ROWS"]

ELEMENTWISE = (
    Elementwise("erf", (REAL,)),
    Elementwise("erfc", (REAL,)),
    Elementwise("erfinv", ((-0.8, 0.8),), analytic=False),
    Elementwise("gammaln", (POSITIVE,)),
    Elementwise("digamma", (POSITIVE,)),
    Elementwise("xlogy", (POSITIVE, POSITIVE)),
    Elementwise("xlog1py", (POSITIVE, POSITIVE)),
)


def _scipys(name: str, of_complex: str | None = None) -> None:
    """Give the reference SciPy's function, in the precision of its argument."""

    def function(x: Any) -> Any:
        is_complex = np.iscomplexobj(x)
        f = getattr(scipy.special, of_complex if is_complex and of_complex else name)
        return f(x).astype(x.dtype)

    function.__name__ = name
    formula(function)


for _name in ("erf", "erfc", "erfinv", "digamma"):
    _scipys(_name)
_scipys("gammaln", "loggamma")


@formula
def xlogy(x: Any, y: Any) -> Any:
    return x * np.log(y)


@formula
def xlog1py(x: Any, y: Any) -> Any:
    return x * np.log1p(y)


@formula
def polygamma(n: int, x: Any) -> Any:
    return scipy.special.polygamma(n, x).astype(x.dtype)


@formula
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False, b: Any = 1) -> Any:
    with np.errstate(divide="ignore"):
        return np.log(np.sum(b * np.exp(x), axis=axis, keepdims=keepdims))


def _of_order(n: int) -> Callable[..., Any]:
    return lambda m, x: m.polygamma(n, x)


def _weighted(m: Any, x: Any, b: Any) -> Any:
    return m.logsumexp(x, axis=-1, b=b)


_X = (Operand((2, 3)),)
ROWS = (
    *rows_of(ELEMENTWISE),
    *(
        Row(f"polygamma-{n}", "polygamma", _of_order(n), (Operand(shape, POSITIVE),), False)
        for n, shape in ((0, (2, 3)), (1, ()), (2, (3,)), (1, (0, 2)))
    ),
    Row("logsumexp", "logsumexp", method("logsumexp"), _X),
    Row("logsumexp-axis", "logsumexp", method("logsumexp", axis=0), _X),
    Row("logsumexp-axes", "logsumexp", method("logsumexp", axis=(0, -1), keepdims=True), _X),
    Row("logsumexp-scalar", "logsumexp", method("logsumexp"), (Operand(()),)),
    Row("logsumexp-no-rows", "logsumexp", method("logsumexp", axis=1), (Operand((0, 3)),)),
    Row("logsumexp-weights", "logsumexp", _weighted, (Operand((2, 3)), Operand((3,), POSITIVE))),
    Row("logsumexp-broadcast", "logsumexp", _weighted, (Operand((3,)), Operand((2, 1), POSITIVE))),
)

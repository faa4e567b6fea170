"""Lines that are wrong on purpose: both libraries must refuse them alike, and change nothing."""

from __future__ import annotations

from collections.abc import Callable

from tests.parity.differential.draw import Draw

__all__ = ["MISTAKES"]


def _of(template: str) -> Callable[[Draw], str]:
    return lambda d: template.format(x=d.float_tensor(), n=len(d.tensors))


MISTAKES: dict[str, Callable[[Draw], str]] = {
    "shapes do not broadcast": _of("{x} + np.ones(7)"),
    "written value does not broadcast": _of("{x}[...] = np.ones((7, 7, 7))"),
    "augmented by what does not broadcast": _of("{x} *= np.ones((5, 4, 3, 2))"),
    "index out of range": _of("{x}[9]"),
    "written index out of range": _of("{x}[9] = 1.0"),
    "too many indices": _of("{x}[0, 0, 0, 0, 0]"),
    "axis out of range": _of("m.sum({x}, axis=7)"),
    "axis given twice": _of("m.sum({x}, axis=(0, 0))"),
    "size of a reshape": _of("{x}.reshape((5, 7))"),
    "size of the shape": _of("{x}.shape = (5, 7)"),
    "complex data": _of("m.tensor([1j])"),
    "text": _of("m.tensor('a')"),
    "integers that take a gradient": _of("m.tensor([1, 2], constant=False)"),
    "constant that is no bool": _of("m.tensor([1.0], constant=1)"),
    "gradient of a wrong shape": _of("{x}.backward(np.ones((5, 4, 3, 2)))"),
    "gradient that is no number": _of("{x}.backward('a')"),
    "unknown keyword": _of("m.exp({x}, axs=1)"),
    "out of a wrong shape": _of("m.exp({x}, out=np.zeros((5, 4, 3, 2)))"),
    "out of a dtype that cannot hold it": _of("m.exp({x}, out=np.zeros({x}.shape, int))"),
    "mask of a wrong shape": _of("m.exp({x}, where=np.ones((5, 4, 3, 2), bool), out={x})"),
    "matrix product of a wrong shape": _of("m.matmul({x}, np.ones((7, 7)))"),
    "item of many": _of("m.zeros((2, 2)).item()"),
    "length of a number": _of("len(m.tensor(1.0))"),
    "joining of wrong shapes": _of("m.concatenate([{x}, np.ones((5, 4, 3, 2))])"),
    "joining of nothing": _of("m.concatenate([])"),
    "transposition of wrong axes": _of("m.transpose(m.zeros((2, 2)), (0, 0))"),
    "squeezing of an axis that is long": _of("m.squeeze(m.zeros((2, 2)), axis=0)"),
    "floor division of a variable": _of("np.floor(m.tensor([1.5]))"),
    "method of a ufunc": _of("m.add.reduce({x})"),
    "write into a broadcast view": _of("m.broadcast_to({x}, (2, *{x}.shape))[...] = 1.0"),
}

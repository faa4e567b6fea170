"""Random calls of the functions of nnet give what mygrad 2.5.0 gives: values, gradients, errors.

A call is drawn with arguments that fit, and now and then with one that does not; both libraries get
the same arrays. Of float32 the result stays float32 here; where mygrad makes 64 bits of a Python
number it does not there. The gru is in tests/nnet/test_gru.py.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mygrad", reason="mygrad is not installed")

import mygrad
import mygrad.nnet

import gpugrad
import gpugrad.nnet

CALLS = 60
WRONG = 0.15


class Draw:
    """Arrays and settings; `wrong` settings with probability `WRONG`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.tensors: list[np.ndarray] = []
        self.dtype = self.pick(np.float64, np.float64, np.float32)

    def pick(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def unless(self, wrong: Any, right: Any) -> Any:
        """The second, seldom the first."""
        return wrong if self.rng.random() < WRONG else right

    def shape(self, low: int, high: int) -> tuple[int, ...]:
        return tuple(self.rng.randint(1, 4) for _ in range(self.rng.randint(low, high)))

    def tensor(self, shape: tuple[int, ...]) -> Any:
        """The place of a tensor among the arguments; both libraries make their own."""
        self.tensors.append((self.numbers.normal(size=shape) * 2).astype(self.dtype))
        return _Tensor(len(self.tensors) - 1)

    def labels(self, n: int, classes: int) -> np.ndarray:
        n = self.unless(n + 1, n)
        labels = self.numbers.integers(0, classes, n)
        return self.unless(labels.astype(float), labels)


class _Tensor:
    def __init__(self, place: int) -> None:
        self.place = place


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def _elementwise(d: Draw) -> Arguments:
    return (d.tensor(d.shape(0, 3)),), {}


def _slope(name: str) -> Callable[[Draw], Arguments]:
    return lambda d: ((d.tensor(d.shape(0, 3)), d.unless("a", d.pick(0.0, 0.1, 2, 1.5))), {})


def _along(d: Draw) -> Arguments:
    shape = d.shape(1, 3)
    axis = d.unless(len(shape), d.rng.randrange(-len(shape), len(shape)))
    return (d.tensor(shape),), {"axis": axis}


def _glu(d: Draw) -> Arguments:
    shape = d.shape(1, 3)
    axis = d.rng.randrange(-len(shape), len(shape))
    even = list(shape)
    even[axis] = d.unless(3, 2 * even[axis])
    return (d.tensor(tuple(even)),), {"axis": axis}


def _classes(d: Draw) -> Arguments:
    n, classes = d.rng.randint(1, 4), d.rng.randint(2, 5)
    return (d.tensor(d.unless((n,), (n, classes))), d.labels(n, classes)), {}


def _focal(d: Draw) -> Arguments:
    arguments, _ = _classes(d)
    if len(d.tensors[0].shape) == 2:  # probabilities
        d.tensors[0] = 1 / (1 + np.exp(-d.tensors[0]))
    return arguments, {"alpha": d.pick(1, 0.5), "gamma": d.unless(-1, d.pick(0, 1, 2.5))}


def _softmax_focal(d: Draw) -> Arguments:
    arguments, _ = _classes(d)
    return arguments, {"alpha": d.pick(1, 0.5), "gamma": d.unless(-1, d.pick(0, 1, 2.5))}


def _hinge(d: Draw) -> Arguments:
    arguments, _ = _classes(d)
    return arguments, {"hinge": d.pick(1.0, 0.5)}


def _ranking(d: Draw) -> Arguments:
    shape = d.shape(1, 2)
    other = d.unless((*shape, 2), shape)
    y = d.pick(1, -1, d.numbers.choice([-1, 1], size=shape[:1]))
    return (d.tensor(shape), d.tensor(other), y, d.unless(-1.0, d.pick(0.0, 1.0))), {}


def _conv(d: Draw) -> Arguments:
    n = d.rng.randint(1, 2)
    batch, channels, filters = (d.rng.randint(1, 3) for _ in range(3))
    window = tuple(d.rng.randint(1, 3) for _ in range(n))
    stride, dilation, padding = d.pick(1, 2), d.pick(1, 1, 2), d.pick(0, 0, 1)
    lengths = tuple(
        d.rng.randint(1, 3) * stride + (k - 1) * dilation + 1 + d.unless(1, 0) for k in window
    )
    x = d.tensor((batch, d.unless(channels + 1, channels), *lengths))
    w = d.tensor((filters, channels, *window))
    stride = d.unless(d.pick(0, -1), d.pick(stride, (stride,) * n))
    return (x, w), {"stride": stride, "padding": padding, "dilation": dilation}


def _max_pool(d: Draw) -> Arguments:
    n = d.rng.randint(1, 2)
    window = tuple(d.rng.randint(1, 3) for _ in range(n))
    stride = d.pick(1, 2)
    lengths = tuple(k + stride * d.rng.randint(0, 2) + d.unless(1, 0) for k in window)
    x = d.tensor((*d.shape(0, 2), *lengths))
    return (x, d.unless((0,) * n, window), d.unless(0, stride)), {}


def _batchnorm(d: Draw) -> Arguments:
    shape = (d.rng.randint(2, 4), *d.shape(1, 3))
    options = {"eps": d.pick(1e-3, 0.1)}
    for name in ("gamma", "beta"):
        if d.rng.random() < 0.6:
            options[name] = d.tensor((shape[1],))
    return (d.tensor(shape),), options


TABLE: dict[str, Callable[[Draw], Arguments]] = {
    **dict.fromkeys(
        (f"activations.{name}" for name in "relu sigmoid tanh hard_tanh selu soft_sign".split()),
        _elementwise,
    ),
    "activations.elu": _slope("alpha"),
    "activations.leaky_relu": _slope("slope"),
    "activations.softmax": _along,
    "activations.logsoftmax": _along,
    "activations.glu": _glu,
    "losses.softmax_crossentropy": _classes,
    "losses.negative_log_likelihood": _classes,
    "losses.multiclass_hinge": _hinge,
    "losses.focal_loss": _focal,
    "losses.softmax_focal_loss": _softmax_focal,
    "losses.margin_ranking_loss": _ranking,
    "layers.conv_nd": _conv,
    "layers.max_pool": _max_pool,
    "layers.batchnorm": _batchnorm,
}


def outcome(library: Any, name: str, d: Draw, arguments: Arguments) -> Any:
    """What a user sees: the value and all gradients, or the error."""
    xs = [library.tensor(a) for a in d.tensors]

    def given(a: Any) -> Any:
        return xs[a.place] if isinstance(a, _Tensor) else a

    module, _, function = name.partition(".")
    f = getattr(getattr(library.nnet, module), function)
    positional, options = arguments
    try:
        with np.errstate(all="ignore"):
            y = f(*map(given, positional), **{k: given(a) for k, a in options.items()})
    except Exception as error:  # its class is compared
        return error
    y.backward(np.random.default_rng(1).normal(size=y.shape))
    return [y.data, *(x.grad for x in xs)]


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.filterwarnings("ignore")
def test_random_calls_give_what_mygrad_gives(name: str):
    met: Counter[str] = Counter()
    for seed in range(CALLS):
        d = Draw(seed)
        arguments = TABLE[name](d)
        theirs, ours = (outcome(library, name, d, arguments) for library in (mygrad, gpugrad))
        shown = f"{name} seed {seed}: {[a.shape for a in d.tensors]} {arguments}"
        if isinstance(theirs, Exception) or isinstance(ours, Exception):
            assert isinstance(ours, type(theirs)), f"{shown}: {theirs!r} there, {ours!r} here"
            met["errors"] += 1
            continue
        met["values"] += 1
        tolerance = 1e-10 if d.dtype is np.float64 else 1e-4
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None), shown
            if a is not None:
                assert a.dtype == d.dtype and a.shape == b.shape, shown
                np.testing.assert_allclose(a, b, tolerance, tolerance, err_msg=shown)
    assert met["values"] > CALLS / 4, met
    assert met["errors"] > 0 or TABLE[name] is _elementwise or TABLE[name] is _batchnorm

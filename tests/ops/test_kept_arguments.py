"""A derivative is of the indices, masks and labels that the value was computed with.

They are arguments that take no gradient and that the caller may write to at once: a buffer that is
filled anew for each batch must not change the gradients of the batches before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as gg


def setitem(x: Any, k: Any) -> Any:
    y = x * 1
    y[k] = x[0]
    return y * [[1.0], [2.0], [3.0]]


BY_PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "getitem": lambda x, k: x[k],
    "getitem by a tuple": lambda x, k: x[k, k],
    "getitem by a tensor": lambda x, k: x[gg.tensor(k, copy=False)],
    "setitem": setitem,
    "take": lambda x, k: gg.take(x, k, axis=0),
    "take_along_axis": lambda x, k: gg.take_along_axis(x, k[:, None], 0),
    "softmax_crossentropy": lambda x, k: gg.nnet.softmax_crossentropy(x[:2], k),
    "negative_log_likelihood": lambda x, k: gg.nnet.negative_log_likelihood(x[:2], k),
    "multiclass_hinge": lambda x, k: gg.nnet.multiclass_hinge(x[:2], k),
    "focal_loss": lambda x, k: gg.nnet.focal_loss(x[:2], k, gamma=2.0),
    "softmax_focal_loss": lambda x, k: gg.nnet.softmax_focal_loss(x[:2], k, gamma=2.0),
}
BY_MASK: dict[str, Callable[[Any, Any], Any]] = {
    "getitem": lambda x, k: x[k],
    "setitem": setitem,
    "where=": lambda x, k: gg.exp(x, where=k[:, None]),
    "where= and out=": lambda x, k: gg.exp(x, where=k[:, None], out=gg.tensor(np.ones((3, 3)))),
}
X = np.array([[0.1, 0.2, 0.7], [0.3, 0.6, 0.1], [0.5, 0.25, 0.25]])


def gradient(f: Callable[[Any, Any], Any], k: np.ndarray, later: np.ndarray) -> np.ndarray:
    x, k = gg.tensor(X), k.copy()
    y = f(x, k)
    k[...] = later
    y.sum().backward()
    return x.grad


@pytest.mark.parametrize("name", BY_PLACES)
def test_gradient_is_at_the_places_that_were_read(name: str):
    f, k = BY_PLACES[name], np.array([0, 2])
    np.testing.assert_array_equal(gradient(f, k, np.array([1, 1])), gradient(f, k, k))


@pytest.mark.parametrize("name", BY_MASK)
def test_gradient_is_under_the_mask_that_was_used(name: str):
    f, k = BY_MASK[name], np.array([True, False, True])
    np.testing.assert_array_equal(gradient(f, k, ~k), gradient(f, k, k))


def test_gradient_is_of_the_list_that_was_read():
    x, places = gg.tensor(X), [0, 2]
    y = x[places]
    places[:] = [1, 1]
    y.backward()
    np.testing.assert_array_equal(x.grad, [[1.0] * 3, [0.0] * 3, [1.0] * 3])


def test_gradient_is_of_the_counts_that_were_repeated():
    x, counts = gg.tensor(X), np.array([3, 0, 1])
    y = gg.repeat(x, counts, axis=0)
    counts[:] = [1, 1, 2]
    y.backward()
    np.testing.assert_array_equal(x.grad, [[3.0] * 3, [0.0] * 3, [1.0] * 3])

"""Batch normalization: mygrad's and torch's values and gradients, statistics, constant channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpugrad.nnet.layers.batchnorm import BatchNorm

import gpugrad as gg
from gpugrad import nnet
from tests.nnet.against_mygrad import assert_same_calculus, assert_same_error

SHAPES = ((4, 3), (5, 3, 2), (2, 3, 4, 2), (2, 3, 1, 2, 2), (1, 3, 5), (7, 1))


def drawn(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    c = shape[1]
    return rng.normal(1, 2, shape), rng.normal(size=c), rng.normal(size=c)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [0, 1e-5, 0.3])
def test_values_gradients_and_constants_are_mygrads(shape: tuple[int, ...], eps: float):
    x, gamma, beta = drawn(shape)
    close = {"rtol": 1e-9, "atol": 1e-12}  # mygrad adds up in another order
    assert_same_calculus(lambda m, x: m.batchnorm(x, eps=eps), x, **close)
    assert_same_calculus(lambda m, x, g: m.batchnorm(x, gamma=g, eps=eps), x, gamma, **close)
    assert_same_calculus(lambda m, x, b: m.batchnorm(x, beta=b, eps=eps), x, beta, **close)
    assert_same_calculus(
        lambda m, x, g, b: m.batchnorm(x, gamma=g, beta=b, eps=eps), x, gamma, beta, **close
    )


def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    arrays = drawn((8, 3, 5, 4))
    g = np.random.default_rng(1).normal(size=(8, 3, 5, 4))
    xs = [gg.tensor(a) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = nnet.batchnorm(xs[0], gamma=xs[1], beta=xs[2], eps=1e-5)
    expected = torch.nn.functional.batch_norm(ts[0], None, None, ts[1], ts[2], True, 0.1, 1e-5)
    y.backward(g)
    expected.backward(torch.tensor(g))
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-11, atol=1e-13)
    for x, t in zip(xs, ts):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("names", [(), ("x",), ("gamma",), ("beta",), ("gamma", "beta")])
def test_gradients_of_some_operands_do_not_need_those_of_others(names: tuple[str, ...]):
    arrays = dict(zip(("x", "gamma", "beta"), drawn((4, 3, 2))))
    found: dict[str, Any] = {}
    for constants in ((), names):
        xs = {k: gg.tensor(a, constant=k in constants) for k, a in arrays.items()}
        nnet.batchnorm(eps=1e-3, **xs).backward(arrays["x"])
        found[str(bool(constants))] = {k: x.grad for k, x in xs.items()}
    for k, g in found[str(bool(names))].items():
        if k in names:
            assert g is None
        else:
            np.testing.assert_allclose(g, found["False"][k], rtol=1e-13, atol=1e-14)


def test_statistics_are_those_of_the_channels():
    x, gamma, beta = drawn((6, 3, 4))
    y = nnet.batchnorm(gg.tensor(x), gamma=gamma, beta=beta, eps=0.1)
    op = BatchNorm()
    op(gg.tensor(x), gg.tensor(gamma), gg.tensor([]), eps=0.1)
    for creator in (y.creator, op):
        assert isinstance(creator, BatchNorm)
        np.testing.assert_allclose(creator.mean, x.mean((0, 2)), rtol=1e-13)
        np.testing.assert_allclose(creator.var, x.var((0, 2)), rtol=1e-13)
    np.testing.assert_allclose(op(gg.tensor(x), [], [], eps=0), nnet.batchnorm(x, eps=0).data)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1e8])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_channel_of_equal_numbers_becomes_beta(value: float, eps: float, device: str):
    x = np.full((32, 2, 10, 10), value)
    x[:, 1] = np.random.default_rng(0).normal(size=(32, 10, 10))
    xs = [gg.tensor(a, device=device) for a in (x, [2.0, 3.0], [7.0, 0.0])]
    y = nnet.batchnorm(xs[0], gamma=xs[1], beta=xs[2], eps=eps)
    rounding = 1e-12 * value / np.sqrt(eps)
    np.testing.assert_allclose(gg.asnumpy(y)[:, 0], 7.0, rtol=0, atol=rounding + 1e-15)
    y.backward(gg.tensor(x, device=device))
    assert all(np.isfinite(gg.asnumpy(t.grad)).all() for t in xs)


def test_without_eps_a_channel_of_equal_numbers_takes_no_gradient(device: str):
    x = gg.tensor([[1.0, 2.0], [1.0, 4.0], [1.0, 9.0]], device=device)
    beta = gg.tensor([7.0, 0.0], device=device)
    # of equal cotangents a channel takes no gradient in any case
    weight = gg.tensor([[1.0], [2.0], [4.0]], constant=True, device=device)

    def f(x: gg.Tensor) -> gg.Tensor:
        y = nnet.batchnorm(x, beta=beta, eps=0)
        return (weight * y * y * y).sum()

    y = nnet.batchnorm(x, beta=beta, eps=0)
    np.testing.assert_array_equal(gg.asnumpy(y)[:, 0], 7.0)
    f(x).backward()
    assert (gg.asnumpy(x.grad)[:, 0] == 0).all() and (gg.asnumpy(x.grad)[:, 1] != 0).all()
    np.testing.assert_allclose(gg.asnumpy(gg.grad(f)(x)), gg.asnumpy(x.grad), rtol=1e-12)
    second = gg.asnumpy(gg.hessian(f)(x))
    assert np.isfinite(second).all() and (second[:, 0] == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_large_means_do_not_cost_the_precision_of_the_gradients(dtype: Any, device: str):
    rng = np.random.default_rng(0)
    x = (100 + rng.normal(size=(64, 3, 8, 8))).astype(dtype)
    g = rng.normal(size=x.shape).astype(dtype)
    gamma, beta = np.ones(3, dtype), np.zeros(3, dtype)
    grads = []
    for t, place in ((dtype, device), (np.float64, "cpu")):
        xs = [gg.tensor(a.astype(t), device=place) for a in (x, gamma, beta)]
        y = nnet.batchnorm(xs[0], gamma=xs[1], beta=xs[2], eps=1e-5)
        assert y.dtype == t
        y.backward(gg.tensor(g.astype(t), device=place))
        assert all(v.grad.dtype == t for v in xs)
        grads.append([gg.asnumpy(a).astype(float) for a in (y, *(v.grad for v in xs))])
    unit = max(np.finfo(dtype).eps, 100 * np.finfo(np.float32).eps)  # of x - mean in float32
    for a, b in zip(*grads):
        np.testing.assert_allclose(a, b, rtol=0, atol=8 * unit * np.abs(b).max())


@pytest.mark.parametrize("place", [0, 1, 2])
def test_operands_of_float64_widen_the_result_as_in_numpy(place: int):
    arrays = [a.astype(np.float32) for a in drawn((4, 3, 2))]
    arrays[place] = arrays[place].astype(float)
    xs = [gg.tensor(a) for a in arrays]
    y = nnet.batchnorm(xs[0], gamma=xs[1], beta=xs[2], eps=1e-3)
    y.backward()
    assert y.dtype == np.float64
    assert [x.grad.dtype for x in xs] == [a.dtype for a in arrays]


def test_offsets_of_float64_are_not_rounded():
    x, beta = np.ones((4, 2), np.float32), np.array([1 / 3, 1e-9])
    y = nnet.batchnorm(gg.tensor(x), beta=gg.tensor(beta), eps=1e-3)
    np.testing.assert_array_equal(y.data, np.broadcast_to(beta, x.shape))


def test_second_sweep_finds_the_same_gradients():
    arrays = drawn((4, 3, 2))

    def f(x: Any, gamma: Any, beta: Any) -> gg.Tensor:
        return nnet.batchnorm(x, gamma=gamma, beta=beta, eps=1e-3)

    _, pull = gg.vjp(f, *map(gg.tensor, arrays))
    g = np.random.default_rng(1).normal(size=(4, 3, 2))
    first = [gg.asnumpy(a) for a in pull(g)]
    twice = [gg.asnumpy(a) for a in pull(2 * g)]
    g *= 3  # the same array with other numbers
    thrice = [gg.asnumpy(a) for a in pull(g)]
    for a, b, c in zip(first, twice, thrice):
        np.testing.assert_allclose(2 * a, b, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(3 * a, c, rtol=1e-13, atol=1e-14)


def test_gradients_one_by_one_are_those_found_together():
    arrays = drawn((4, 3, 2))
    g = np.random.default_rng(1).normal(size=(4, 3, 2))
    xs = [gg.tensor(a) for a in arrays]
    nnet.batchnorm(xs[0], gamma=xs[1], beta=xs[2], eps=1e-3).backward(g)
    op = BatchNorm()
    op(*map(gg.tensor, arrays), eps=1e-3)
    for i in (1, 0, 2, 0, 1):
        np.testing.assert_allclose(op.backward_var(g, i), xs[i].grad, rtol=1e-13, atol=1e-14)


def test_nothing_is_kept_when_no_gradient_can_be_asked_for():
    x, _, _ = drawn((4, 3, 2))
    y = nnet.batchnorm(x, eps=1e-3)
    assert y.constant and "centred" not in y._vertex.params["saved"]
    y = nnet.batchnorm(gg.tensor(x), eps=1e-3)
    assert "centred" in y._vertex.params["saved"]
    y.backward()
    assert y._vertex.params == {}


def test_integers_give_constants_of_float64():
    x = gg.tensor(np.arange(12).reshape(4, 3))
    y = nnet.batchnorm(x, eps=0)
    assert y.constant and y.dtype == np.float64
    np.testing.assert_allclose(y.data.std(0), 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.batchnorm(m.tensor(np.ones((2, 3))), gamma=m.tensor(np.ones(2)), eps=1),
        lambda m: m.batchnorm(m.tensor(np.ones((2, 3))), beta=m.tensor(np.ones(4)), eps=1),
    ],
)
def test_wrong_shapes_raise_what_mygrad_raises(call: Any):
    assert_same_error(call, "batchnorm")


def test_bad_operands_raise(cupy_standin: Any):
    with pytest.raises(ValueError, match=r"batchnorm: x has shape \(3,\), expected \(N, C"):
        nnet.batchnorm(np.ones(3), eps=1)
    with pytest.raises(TypeError, match="batchnorm: eps is 'a'"):
        nnet.batchnorm(np.ones((3, 2)), eps="a")
    with pytest.raises(TypeError, match="eps"):
        nnet.batchnorm(np.ones((3, 2)))
    for eps in (-1e-3, np.nan):
        with pytest.raises(ValueError, match="batchnorm: eps is .*, expected a number of at least"):
            nnet.batchnorm(np.ones((3, 2)), eps=eps)
    with pytest.raises(gg.DeviceMismatchError, match="batchnorm"):
        nnet.batchnorm(gg.tensor(np.ones((3, 2)), device="cuda"), gamma=np.ones(2), eps=1)

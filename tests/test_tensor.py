"""The handle: creation, conversion, what is constant, and `backward`."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import gpugrad as gg

# ------------------------------------------------------------------------------------- creation


@pytest.mark.parametrize(
    "x", [1, 1.5, True, [1, 2], [[1.0], [2.0]], (), np.float32(2), np.arange(3), np.zeros((0, 2))]
)
def test_tensor_holds_what_numpy_makes_of_it(x: Any):
    t, expected = gg.tensor(x), np.array(x)
    assert t.dtype == expected.dtype
    assert t.shape == expected.shape
    assert (t.ndim, t.size) == (expected.ndim, expected.size)
    np.testing.assert_array_equal(t.data, expected)
    assert t.constant == (expected.dtype.kind != "f")
    assert t.creator is None
    assert t.base is None
    assert t.grad is None


def test_tensor_copies_unless_told_otherwise():
    array = np.zeros(3)
    for make in (gg.tensor, gg.Tensor):
        assert not np.shares_memory(make(array).data, array)
        assert make(array, copy=False).data is array
    x = gg.tensor(array, copy=False)
    assert gg.tensor(x, copy=False) is x
    assert gg.astensor(x) is x
    assert gg.astensor(array).data is array
    assert not np.shares_memory(gg.tensor(x).data, array)


def test_tensor_made_of_a_tensor_is_a_leaf():
    x = gg.tensor([1.0, 2.0])
    y = x * 2.0
    z = gg.tensor(y)
    assert z.creator is None
    (z * 3.0).backward()
    assert x.grad is None


def test_dtype_ndmin_and_constant():
    t = gg.tensor([1, 2], dtype="float32", ndmin=3, constant=True)
    assert t.dtype == np.float32
    assert t.shape == (1, 1, 2)
    assert t.constant
    assert not gg.tensor([1.0], constant=False).constant
    assert not gg.astensor(gg.tensor([1.0], constant=True), constant=False).constant


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: gg.tensor([1, 2], constant=False), ValueError),
        (lambda: gg.tensor([1.0], constant=1), TypeError),
        (lambda: gg.tensor([1j]), TypeError),
        (lambda: gg.tensor(["a"]), TypeError),
        (lambda: gg.tensor([None]), TypeError),
        (lambda: gg.tensor([[1.0], [1.0, 2.0]]), ValueError),
        (lambda: gg.tensor([gg.tensor(1.0), 2.0]), TypeError),
        (lambda: gg.zeros((2,), dtype=int, constant=False), ValueError),
        (lambda: gg.zeros((2,), dtype=complex), TypeError),
        (lambda: gg.tensor([1.0], device="cuda:x"), ValueError),
        (lambda: gg.zeros((-1,)), ValueError),
    ],
)
def test_creation_refuses(make: Any, error: type):
    with pytest.raises(error):
        make()


def test_sequence_of_constant_tensors_is_an_array():
    t = gg.tensor([gg.tensor(1), gg.tensor(2)])
    np.testing.assert_array_equal(t, [1, 2])
    assert t.shape == (2,)


CREATIONS = {
    "zeros": ((2, 3),),
    "ones": ((2, 3),),
    "full": ((2,), 3.5),
    "arange": (2, 9, 3),
    "linspace": (0, 1, 5),
    "eye": (3, 4, 1),
    "identity": (3,),
}


@pytest.mark.parametrize("name", CREATIONS)
def test_creation_functions_are_numpys_on_any_device(name: str, device: str):
    args = CREATIONS[name]
    found = getattr(gg, name)(*args, dtype=np.float64, device=device)
    assert str(found.device).startswith(device)
    np.testing.assert_array_equal(gg.asnumpy(found), getattr(np, name)(*args, dtype=np.float64))
    assert not found.constant
    with gg.use_device(device):
        assert str(getattr(gg, name)(*args).device).startswith(device)


def test_default_dtypes():
    assert gg.zeros((1,)).dtype == gg.ones((1,)).dtype == gg.empty((1,)).dtype == np.float32
    assert gg.arange(3).dtype == np.arange(3).dtype
    assert gg.full((1,), 2).dtype == np.full(1, 2).dtype
    assert gg.eye(2).dtype == gg.linspace(0, 1).dtype == np.float64


@pytest.mark.parametrize("name", ("zeros_like", "ones_like", "empty_like", "full_like"))
def test_like_functions_take_shape_dtype_device_and_constant(name: str, device: str):
    fill = (7,) if name == "full_like" else ()
    x = gg.tensor(np.ones((2, 3), np.float16), device=device, constant=True)
    y = getattr(gg, name)(x, *fill)
    assert (y.shape, y.dtype, y.device, y.constant) == (x.shape, x.dtype, x.device, True)
    if name != "empty_like":
        expected = {"zeros_like": 0, "ones_like": 1, "full_like": 7}[name]
        np.testing.assert_array_equal(gg.asnumpy(y), np.full((2, 3), expected))
    z = getattr(gg, name)(x, *fill, dtype=np.float64, shape=(4,), constant=False)
    assert (z.shape, z.dtype, z.constant) == ((4,), np.float64, False)
    assert getattr(gg, name)(np.arange(3), *fill).dtype == np.arange(3).dtype


# ----------------------------------------------------------------------------------- conversion


def test_astype_starts_a_new_graph():
    x = gg.tensor([1.5, 2.5])
    y = x * 2.0
    z = y.astype(np.float32)
    assert z.dtype == np.float32
    assert z.creator is None
    assert y.astype(np.float64, copy=False) is y
    assert not np.shares_memory(y.astype(np.float64).data, y.data)
    assert y.astype(int).constant
    assert gg.tensor([1, 2]).astype(float).constant is False
    assert x.astype(np.float32, constant=True).astype(np.float64).constant
    with pytest.raises(TypeError):
        x.astype(int, casting="safe")
    with pytest.raises(ValueError):
        x.astype(int, constant=False)


def test_copy_takes_data_and_gradient_and_leaves_the_graph():
    x = gg.tensor([1.0, 2.0])
    (x * x).backward()
    for y in (x.copy(), copy.copy(x), copy.deepcopy(x)):
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(y.grad, x.grad)
        assert not np.shares_memory(y.data, x.data)
        assert not np.shares_memory(y.grad, x.grad)
        assert y.creator is None
    assert x.copy(constant=True).constant
    z = (x * 2.0).copy()
    z.backward()
    assert x.grad is None


def test_deepcopy_keeps_identities():
    x = gg.tensor([1.0])
    a, b = copy.deepcopy([x, x])
    assert a is b


def test_pickle_keeps_data_gradient_and_constant():
    x = gg.tensor([1.0, 2.0], dtype=np.float32)
    (x * x).backward()
    y = pickle.loads(pickle.dumps(x))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(y.grad, x.grad)
    assert y.dtype == np.float32
    assert pickle.loads(pickle.dumps(gg.tensor([1.0], constant=True))).constant
    z = pickle.loads(pickle.dumps(x * 2.0))
    np.testing.assert_array_equal(z, [2.0, 4.0])
    z[0] = 1.0


def test_items_and_truth():
    assert gg.tensor([2.5]).item() == 2.5
    assert type(gg.tensor(3).item()) is int
    assert (float(gg.tensor(2.5)), int(gg.tensor(2.5)), bool(gg.tensor(0.0))) == (2.5, 2, False)
    assert [10, 20, 30][gg.tensor(1)] == 20
    for refused in (
        lambda: gg.tensor([1.0, 2.0]).item(),
        lambda: bool(gg.tensor([1.0, 2.0])),
    ):
        with pytest.raises(ValueError):
            refused()
    with pytest.raises(TypeError):
        [1, 2][gg.tensor(1.0)]
    for number in (float, int):
        for x, error in ((gg.tensor([1.0, 2.0]), TypeError), (gg.zeros(0), ValueError)):
            with pytest.raises(error, match=f"^{number.__name__}: .*expected one element"):
                number(x)


def test_len_iteration_and_membership():
    x = gg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    rows = list(x)
    assert all(row.base is x for row in rows)
    (rows[0] * rows[1]).sum().backward()
    np.testing.assert_array_equal(x.grad, [[3.0, 4.0], [1.0, 2.0]])
    assert 3.0 in x
    assert 7.0 not in x
    for refused in (lambda: len(gg.tensor(1.0)), lambda: iter(gg.tensor(1.0))):
        with pytest.raises(TypeError):
            refused()


def test_membership_and_use_as_an_index_on_every_device(device: str):
    x = gg.tensor([[1.0, 3.0], [2.0, 4.0]], device=device)
    assert 3.0 in x
    assert gg.tensor(4.0) in gg.tensor([4.0])
    assert 7.0 not in x
    assert "abc"[gg.tensor(1, device=device)] == "b"
    for wrong in (gg.tensor(1.0, device=device), gg.tensor([1], device=device)):
        with pytest.raises(TypeError, match="is not an index, expected one integer"):
            "abc"[wrong]


def test_array_of_another_device_is_no_data_of_a_tensor_with_a_history(cupy_standin: Any):
    x = gg.tensor([1.0, 2.0], device="cuda")
    y = x * 2
    with pytest.raises(gg.DeviceMismatchError, match="Tensor.data"):
        y.data = np.ones(2)
    x.clear_graph()
    z = gg.tensor([1.0, 2.0], device="cuda")
    z.data = np.ones(2)
    assert str(z.device) == "cpu"


def test_repr_is_numpys_with_another_name(device: str):
    for x in (np.array([1.0, 2.0]), np.array(3), np.ones((2, 2), np.float32), np.zeros(0)):
        expected = repr(x).replace("array", "Tensor").replace("\n", "\n ")
        assert repr(gg.tensor(x, device=device)) == expected


def test_a_number_is_formatted_as_one(device: str):
    x = gg.tensor(1.25, device=device)
    assert (f"{x:.1e}", f"{x}") == ("1.2e+00", "Tensor(1.25)")
    with pytest.raises(TypeError, match="format"):
        f"{gg.ones(2):.1f}"


def test_tensors_have_no_hash_as_arrays_and_mygrads_have_none():
    for x in (gg.tensor(1.0), gg.tensor([1.0]), np.ones(1)):
        with pytest.raises(TypeError, match="unhashable type"):
            hash(x)


def test_numpy_array_of_a_tensor():
    x = gg.tensor([1.0, 2.0])
    assert np.asarray(x) is x.data
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(x), x.data)
    with pytest.raises(ValueError, match="copy"):
        np.array(x, dtype=np.float32, copy=False)


def test_array_of_a_tensor_on_a_device_is_refused(cupy_standin: Any):
    x = gg.tensor([1.0, 2.0], device="cuda")
    with pytest.raises(TypeError, match="asnumpy"):
        np.asarray(x)
    np.testing.assert_array_equal(gg.asnumpy(x), [1.0, 2.0])
    assert type(gg.asarray(x)) is cupy_standin.ndarray


def test_to_device(cupy_standin: Any):
    x = gg.tensor([1.0, 2.0])
    y = x * 2.0
    there = y.to_device("cuda")
    assert str(there.device) == "cuda:0"
    assert y.to_device("cpu") is y
    back = there.to_device("cpu")
    np.testing.assert_array_equal(back, [2.0, 4.0])
    assert not there.constant


def test_missing_attribute():
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'nonsense'"):
        gg.tensor(1.0).nonsense  # noqa: B018


# ----------------------------------------------------------------------------------- data, shape


def test_data_setter_makes_a_leaf_of_the_new_array():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    array = np.array([5.0, 6.0, 7.0])
    x.data = array
    assert x.data is array
    assert x.creator is None
    y.backward()
    assert x.grad is None  # the graph was built of the old array
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, [10.0, 12.0, 14.0])
    x.data = [1, 2]
    assert x.constant


def test_data_setter_keeps_a_constant_constant():
    c = gg.tensor([1.0], constant=True)
    c.data = np.array([2.0])
    assert c.constant


def test_properties_cannot_be_set():
    x = gg.tensor([1.0])
    for name in ("grad", "constant", "dtype", "ndim", "size", "creator", "base", "device", "T"):
        with pytest.raises(AttributeError):
            setattr(x, name, 1)


def test_transpose_property_is_a_view():
    x = gg.tensor(np.arange(6.0).reshape(2, 3))
    assert x.T.shape == (3, 2)
    assert x.T.base is x
    assert np.shares_memory(x.T.data, x.data)


def test_flatten_copies_and_ravel_does_not():
    x = gg.tensor(np.arange(6.0).reshape(2, 3))
    assert np.shares_memory(x.ravel().data, x.data)
    flat = x.flatten()
    assert not np.shares_memory(flat.data, x.data)
    assert flat.base is None
    (flat * flat).backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data)


# --------------------------------------------------------------------------------------- backward


@pytest.mark.parametrize("grad", [2.0, [1.0, 2.0, 3.0], np.ones((2, 1)), gg.tensor(3), np.int64(2)])
def test_backward_broadcasts_its_argument(grad: Any):
    x = gg.tensor(np.arange(6.0).reshape(2, 3))
    y = x * 2.0
    y.backward(grad)
    expected = np.broadcast_to(np.asarray(grad, float), (2, 3))
    np.testing.assert_array_equal(y.grad, expected)
    np.testing.assert_array_equal(x.grad, 2 * expected)


@pytest.mark.parametrize(
    "grad, error",
    [
        (np.ones(4), ValueError),
        (np.ones((2, 3, 1)), ValueError),
        (np.ones((1, 2, 3)), ValueError),
        ("one", gg.InvalidGradient),
        ([None, "one"], gg.InvalidGradient),
        (1j, gg.InvalidGradient),
    ],
)
def test_backward_refuses_and_changes_nothing(grad: Any, error: type):
    x = gg.tensor(np.arange(6.0).reshape(2, 3))
    y = x * 2.0
    with pytest.raises(error):
        y.backward(grad)
    assert x.grad is None
    assert y.grad is None
    y.backward()
    np.testing.assert_array_equal(x.grad, np.full((2, 3), 2.0))


def test_backward_without_tracking_does_nothing():
    x = gg.tensor(2.0)
    y = x * x
    with gg.no_autodiff:
        y.backward()
    assert x.grad is None
    y.backward()
    assert x.grad == 4.0


def test_gradient_is_replaced_not_added():
    x = gg.tensor(2.0)
    (x * 3.0).backward()
    (x * 5.0).backward()
    assert x.grad == 5.0


def test_null_grad():
    x = gg.tensor(2.0)
    (x * x).backward()
    assert x.null_grad() is x
    assert x.grad is None


def test_constant_backward_clears_the_graph():
    c = gg.tensor([1.0], constant=True)
    d = c * 2.0
    d.backward()
    assert d.creator is None
    assert d.grad is None


def test_no_autodiff_as_decorator():
    @gg.no_autodiff
    def f(x: gg.Tensor) -> gg.Tensor:
        return x * x

    def g(x: gg.Tensor) -> gg.Tensor:
        return x * x

    x = gg.tensor([1.0, 2.0])
    assert f(x).creator is None
    assert not f(x).constant
    raw = gg.no_autodiff(g, to_numpy=True)(x)
    assert type(raw) is np.ndarray
    assert g(x).creator is not None


def test_view_taken_before_a_block_without_tracking_keeps_its_history():
    x = gg.tensor([1.0, 2.0])
    y = +x
    tail = y[1:]
    y *= 3.0
    with gg.no_autodiff:
        np.testing.assert_array_equal(tail, [6.0])
        y.shape = (2, 1)
    (tail * 1.0).backward()
    np.testing.assert_array_equal(x.grad, [0.0, 3.0])


def test_view_goes_on_being_one_when_its_graph_is_cleared():
    w = gg.tensor(np.arange(6.0).reshape(2, 3))
    y = w * 1.0
    for base in (w, y):
        row = base[1]
        for factor in (2.0, 5.0):
            (row * factor).sum().backward()
            assert row.base is base
            np.testing.assert_array_equal(row.grad, np.full(3, factor))
            np.testing.assert_array_equal(base.grad, [[0.0] * 3, [factor] * 3])
            assert np.shares_memory(row.grad, base.grad)
        row[0] = 7.0
        assert base.data[1, 0] == 7.0
        base[1, 1] = 8.0
        np.testing.assert_array_equal(row, [7.0, 8.0, 5.0])
        assert np.shares_memory(row.data, base.data)


def test_reading_a_view_does_not_change_its_gradient():
    x = gg.tensor([1.0, 2.0, 3.0])
    tail = x[1:]
    (tail * tail).sum().backward()
    for read in (lambda: tail.data, lambda: tail.shape, lambda: len(tail), lambda: repr(tail)):
        read()
        np.testing.assert_array_equal(tail.grad, [4.0, 6.0])
    x.data[...] = 1.0  # and builds no graph that would protect the array


def test_array_of_a_view_is_protected_whenever_it_is_used():
    x = gg.tensor([1.0, 2.0, 3.0])
    tail = x[1:]
    (tail * tail).sum().backward()
    array = tail.data
    array[0] = 5.0
    y = tail * 2.0
    for a in (array, x.data, tail.data):
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0.0
    assert tail.data is array
    y.backward()
    array[0] = 6.0
    np.testing.assert_array_equal(x, [1.0, 6.0, 3.0])


def test_constant_view_stays_constant_when_its_base_moves():
    x = gg.tensor([1.0, 2.0])
    c = gg.reshape(x, (2, 1), constant=True)
    x[0] = 5.0
    np.testing.assert_array_equal(c, [[5.0], [2.0]])
    assert c.constant


# ------------------------------------------------------------------- what MyGrad's programs reach


def test_own_gradient_can_be_set():
    x = gg.tensor([1.0, 2.0])
    x._grad = [5.0, 6.0]
    np.testing.assert_array_equal(x.grad, [5.0, 6.0])
    x * 1  # a tensor that is used again forgets it
    assert x.grad is None


def test_constant_can_be_set():
    x = gg.tensor([1.0, 2.0])
    x._constant = True
    assert x.constant and (x * 2).constant
    with pytest.raises(ValueError, match=r"Tensor._constant: constant=False for dtype int64"):
        gg.tensor([1])._constant = False


def test_null_gradients_warns_and_does_nothing():
    x = gg.tensor([1.0, 2.0])
    y = x * x
    y.backward()
    with pytest.warns(FutureWarning, match="null_gradients does nothing"):
        assert y.null_gradients() is None
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])


def test_step_written_to_data_keeps_the_gradient():
    x = gg.tensor([1.0, 2.0])
    (x * x).backward()
    x.data -= x.grad
    np.testing.assert_array_equal(x.data, [-1.0, -2.0])
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])
    x.data = x.data + 1
    np.testing.assert_array_equal(x.grad, [2.0, 4.0])


def test_data_set_on_a_result_keeps_its_history():
    x = gg.tensor([1.0, 2.0])
    y = x * 3
    y.data = np.array([5.0, 6.0])
    (y * y).backward()
    np.testing.assert_array_equal(y.grad, [10.0, 12.0])
    np.testing.assert_array_equal(x.grad, [30.0, 36.0])
    assert y.data.flags.writeable


def test_tensor_takes_attributes_of_the_users():
    x = gg.tensor([1.0])
    x.name = "weight"
    assert x.name == "weight"


def test_creator_and_base_cannot_be_given():
    with pytest.raises(TypeError, match="_creator or _base"):
        gg.Tensor([1.0], _base=gg.tensor([1.0]))

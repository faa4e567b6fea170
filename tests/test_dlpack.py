"""Memory is shared with other libraries without a copy, and no gradient is lost on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg

X = np.array([[0.5, 1.0, 2.0], [3.0, 0.25, 1.5]])
imports_writeable = pytest.mark.skipif(
    not np.from_dlpack(X).flags.writeable, reason="this NumPy imports all memory as read-only"
)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def constant(x: Any = X, **options: Any) -> gg.Tensor:
    return gg.tensor(x, constant=True, **options)


# ------------------------------------------------------------------------------------------ export


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "uint8"])
def test_torch_sees_the_memory_of_a_constant(torch: Any, dtype: str):
    t = constant(X.astype(dtype))
    theirs = torch.from_dlpack(t)
    assert theirs.data_ptr() == t.data.ctypes.data
    np.testing.assert_array_equal(theirs.numpy(), t.data)
    theirs[0, 0] = 7
    assert t[0, 0].item() == 7


def test_views_are_exported_with_their_strides(torch: Any):
    t = constant()
    theirs = torch.from_dlpack(t.T[::2])
    assert theirs.data_ptr() == t.data.ctypes.data
    assert tuple(theirs.shape) == (2, 2)
    np.testing.assert_array_equal(theirs.numpy(), X.T[::2])


def test_numpy_sees_the_memory_too():
    t = constant()
    assert np.shares_memory(np.from_dlpack(t), t.data)


def test_device_is_told_in_dlpacks_numbers(as_device: Any, device: str):
    t = gg.tensor(as_device(X))
    assert t.__dlpack_device__() == ((1, 0) if device == "cpu" else (2, 0))


def test_variable_is_not_exported_for_its_gradient_would_be_lost(torch: Any):
    x = gg.tensor(X)
    for consume in (np.from_dlpack, torch.from_dlpack, gg.from_dlpack):
        with pytest.raises(BufferError, match=r"\(2, 3\) that takes gradients"):
            consume(x)
    assert torch.from_dlpack(x.data).data_ptr() == x.data.ctypes.data
    with gg.no_autodiff:
        assert torch.from_dlpack(x).data_ptr() == x.data.ctypes.data


def test_guarded_array_is_read_only_to_those_who_cannot_be_told():
    t, x = constant(), gg.tensor(X)
    y = t * x
    with pytest.raises(BufferError, match="while a graph depends on it"):
        t.__dlpack__()
    y.backward()
    assert "dltensor" in repr(t.__dlpack__())


def test_array_that_its_owner_made_read_only_is_refused_in_numpys_words():
    a = X.copy()
    a.flags.writeable = False
    t = gg.tensor(a, copy=False, constant=True)
    with pytest.raises(BufferError, match="Tensor.__dlpack__: .*readonly"):
        t.__dlpack__()


def test_tensor_has_no_cuda_array_interface(as_device: Any):
    assert not hasattr(gg.tensor(as_device(X)), "__cuda_array_interface__")


# ------------------------------------------------------------------------------------------ import


def test_torchs_memory_is_shared(torch: Any):
    theirs = torch.arange(6.0).reshape(2, 3)
    x = gg.from_dlpack(theirs)
    assert x.data.ctypes.data == theirs.data_ptr()
    assert (x.dtype, x.shape, x.constant) == (np.float32, (2, 3), False)
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * theirs.numpy())


def test_copy_shares_nothing(torch: Any):
    theirs = torch.arange(3.0)
    x = gg.from_dlpack(theirs, copy=True)
    assert x.data.ctypes.data != theirs.data_ptr()
    np.testing.assert_array_equal(x, theirs.numpy())


@imports_writeable
def test_what_is_imported_is_guarded_while_a_graph_depends_on_it():
    a = X.copy()
    x = gg.from_dlpack(a)
    y = x * 2.0
    with pytest.raises(ValueError, match="read-only"):
        x.data[0, 0] = 1.0
    y.backward()
    x.data[0, 0] = 1.0
    assert a[0, 0] == 1.0


@imports_writeable
def test_foreign_memory_that_meets_a_graph_as_a_raw_array_stays_writeable():
    a, x = np.from_dlpack(X.copy()), gg.tensor(X)
    y = x * a + x * a.T.T
    y.backward()
    a[0, 0] = 9.0
    np.testing.assert_array_equal(x.grad[1], 2 * X[1])


def test_round_trip_on_each_device_shares_memory(as_device: Any):
    t = gg.tensor(as_device(X), constant=True)
    back = gg.from_dlpack(t)
    t.data[0, 0] = 9.0
    assert back.device == t.device
    assert back[0, 0].item() == 9.0


def test_raw_device_array_is_imported_where_it_lies(as_device: Any, device: str):
    a = as_device(X)
    x = gg.from_dlpack(a, constant=True)
    assert x.device == gg.tensor(a).device
    a[0, 0] = 9.0
    assert x[0, 0].item() == 9.0


def test_import_to_another_device_is_a_copy(cupy_standin: Any):
    x = gg.from_dlpack(X, device="cuda")
    assert str(x.device) == "cuda:0"
    np.testing.assert_array_equal(gg.asnumpy(x), X)
    with pytest.raises(ValueError, match="copy=False for an array on cpu"):
        gg.from_dlpack(X, device="cuda", copy=False)


def test_integers_are_constant_and_complex_numbers_refused():
    assert gg.from_dlpack(np.arange(3)).constant
    assert gg.from_dlpack(X, constant=True).constant
    with pytest.raises(TypeError, match="from_dlpack: got dtype complex128"):
        gg.from_dlpack(X + 1j)
    with pytest.raises(ValueError, match="from_dlpack: constant=False for dtype int64"):
        gg.from_dlpack(np.arange(3), constant=False)


def test_what_does_not_speak_dlpack_is_named():
    with pytest.raises(AttributeError, match="from_dlpack: got list, expected"):
        gg.from_dlpack([1.0])


def test_dtype_that_numpy_lacks_is_named(torch: Any):
    with pytest.raises(
        BufferError, match=r"^from_dlpack: got Tensor of dtype torch\.bfloat16, exp"
    ):
        gg.from_dlpack(torch.ones(3, dtype=torch.bfloat16))


def test_unreadable_device_is_named():
    class Elsewhere:
        def __dlpack__(self) -> None: ...

        def __dlpack_device__(self) -> tuple[int, int]:
            return (10, 0)  # kDLROCM

    with pytest.raises(BufferError, match="from_dlpack: got an array on DLPack's device type 10"):
        gg.from_dlpack(Elsewhere())


def test_torch_tensor_that_takes_gradients_is_refused_until_detached(torch: Any):
    theirs = torch.arange(3.0, requires_grad=True)
    with pytest.raises(BufferError, match=r"^from_dlpack: .*gradient.*detach"):
        gg.from_dlpack(theirs)
    assert gg.from_dlpack(theirs.detach()).data.ctypes.data == theirs.data_ptr()


# --------------------------------------------------------------------------------------------- JAX


@pytest.fixture
def jnp() -> Any:
    return pytest.importorskip("jax.numpy", reason="JAX is not installed")


def aligned(n: int, offset: int = 0) -> np.ndarray:
    """Floats whose memory begins `offset` floats behind a multiple of 64 bytes."""
    raw = np.zeros(n + 32, "float32")
    start = -raw.ctypes.data % 64 // 4 + offset
    return raw[start : start + n]


def test_memory_of_jax_is_shared_and_cannot_be_written(jnp: Any):
    theirs = jnp.arange(6, dtype="float32").reshape(2, 3)
    x = gg.from_dlpack(theirs)
    assert x.data.ctypes.data == theirs.unsafe_buffer_pointer()
    assert (x.dtype, x.shape, x.constant) == (np.float32, (2, 3), False)
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match="read-only"):
        x.data[0, 0] = 9.0
    with pytest.raises(ValueError, match="read-only"):
        gg.from_dlpack(theirs)[0, 0] = 9.0
    np.testing.assert_array_equal(theirs.ravel(), np.arange(6))


def test_copy_of_a_jax_array_may_be_written(jnp: Any):
    theirs = jnp.ones(3)
    x = gg.from_dlpack(theirs, copy=True, constant=True)
    x[0] = 9.0
    np.testing.assert_array_equal(x, [9.0, 1.0, 1.0])
    np.testing.assert_array_equal(theirs, np.ones(3))


def test_jax_shares_aligned_memory_of_a_constant_and_copies_any_other(jnp: Any):
    for offset in (0, 1):
        t = gg.tensor(aligned(64, offset), copy=False, constant=True)
        theirs, own = jnp.from_dlpack(t), jnp.array(t.data)
        shared = theirs.unsafe_buffer_pointer() == t.data.ctypes.data
        assert shared == (offset == 0)
        t.data[3] = 7.0
        assert float(theirs[3]) == (7.0 if shared else 0.0)
        assert float(own[3]) == 0.0


def test_array_that_a_graph_depends_on_goes_to_jax_once_it_is_released(jnp: Any):
    t, x = constant(X.astype("float32")), gg.tensor(X)
    y = t * x
    with pytest.raises(BufferError, match="read-only while a graph depends on it"):
        jnp.from_dlpack(t)
    y.backward()
    np.testing.assert_array_equal(jnp.from_dlpack(t), t.data)


def test_gradient_is_not_lost_on_the_way_to_jax(jnp: Any):
    x = gg.tensor(X)
    with pytest.raises(BufferError, match=r"\(2, 3\) that takes gradients"):
        jnp.from_dlpack(x)
    np.testing.assert_array_equal(jnp.from_dlpack(x.data.astype("float32")), X.astype("float32"))


def test_what_jax_traces_has_no_values_to_import(jnp: Any):
    import jax

    with pytest.raises(AttributeError, match=r"^from_dlpack: got \w*Tracer, expected"):
        jax.grad(lambda z: gg.from_dlpack(z).sum().item())(jnp.ones(3))
    with pytest.raises(BufferError, match=r"^from_dlpack: got ArrayImpl of dtype bfloat16"):
        gg.from_dlpack(jnp.ones(3, "bfloat16"))


# ---------------------------------------------------------------------------------------- machines


def test_weights_of_a_machine_are_torchs_to_look_at_and_to_give(torch: Any):
    from gpugrad.boltzmann import RBM

    model = RBM(3, 2, device="cpu")
    theirs = torch.from_dlpack(model.weights[0].W())
    model.set_parameters({"layers.0.loc": gg.from_dlpack(torch.arange(3.0)).data})
    model.weights[0].parameter_step({"matrix": np.ones((3, 2), "float32")})
    np.testing.assert_array_equal(theirs.numpy(), model.weights[0].W())
    np.testing.assert_array_equal(model.parameters()["layers.0.loc"], [0.0, 1.0, 2.0])

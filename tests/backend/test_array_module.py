"""Which library and device an array belongs to, and the two ways over the bus."""

import sys
import threading

import numpy as np
import pytest

from gpugrad.backend import array_module
from gpugrad.backend.array_module import (
    Device,
    asnumpy,
    check_same_device,
    cupy,
    cupy_if_loaded,
    current_device,
    describe_devices,
    device_of,
    get_array_module,
    module_for,
    on,
    parse_device,
    to_device,
    use_device,
)
from gpugrad.errors import DeviceMismatchError, DeviceNotAvailableError, ParameterError
from tests.fresh_python import output_of


class Handle:
    """What the module knows of a Tensor: a property with the raw array."""

    def __init__(self, data):
        self.data = data

    @property
    def _gpugrad_data_(self):
        return self.data


class HostSubclass(np.ndarray):
    pass


@pytest.fixture
def fresh():
    """Nothing found and no default device read yet, and again so afterwards."""
    array_module._forget()
    yield
    array_module._forget()


SCALARS = [1.0, 1, True, 1j, None, np.float32(1), np.int8(1), np.array(2.0), [1.0], (1, 2)]


class TestLibrary:
    @pytest.mark.parametrize("scalar", SCALARS, ids=repr)
    def test_scalar_goes_with_any_array(self, xp, as_device, scalar):
        x = as_device([1.0, 2.0])
        assert get_array_module(x, scalar) is xp
        assert get_array_module(scalar, x) is xp
        assert get_array_module(scalar, x, scalar, x) is xp

    @pytest.mark.parametrize("scalar", SCALARS, ids=repr)
    def test_scalar_alone_is_numpys(self, scalar):
        assert get_array_module(scalar) is np
        assert get_array_module(scalar, scalar) is np

    def test_no_argument_is_numpys(self):
        assert get_array_module() is np

    def test_arrays_library(self, xp, as_device):
        x = as_device([1.0, 2.0])
        assert get_array_module(x) is xp
        assert get_array_module(x, x[0], x[:1]) is xp

    def test_tensor_counts_as_its_array(self, xp, as_device):
        x = as_device([1.0, 2.0])
        assert get_array_module(Handle(x)) is xp
        assert get_array_module(1.0, Handle(Handle(x)), x) is xp
        assert device_of(Handle(x)) == device_of(x)

    def test_subclass_counts_as_its_base(self):
        x = np.zeros(3).view(HostSubclass)
        assert get_array_module(x) is np
        assert get_array_module(x, x) is np

    def test_host_and_device_array_raise_naming_both(self, cupy_standin):
        x, y = np.ones(3, np.float32), cupy_standin.ones((2, 3))
        message = (
            r"add: argument 1 \(float32, shape \(3,\)\) is on cpu, "
            r"argument 3 \(float64, shape \(2, 3\)\) is on cuda:0"
        )
        with pytest.raises(DeviceMismatchError, match=message):
            check_same_device("add", x, 1.0, y)
        with pytest.raises(DeviceMismatchError, match=r"argument 1 .* is on cuda:0.* is on cpu"):
            get_array_module(y, x)
        with pytest.raises(DeviceMismatchError):
            get_array_module(Handle(y), x)
        with pytest.raises(TypeError):  # what NumPy and CuPy raise for the mixture
            get_array_module(y, x.view(HostSubclass))

    def test_arrays_of_two_gpus_raise_naming_both(self, cupy_standin):
        x, y = to_device([1.0], "cuda:0"), to_device([1.0], "cuda:1")
        with pytest.raises(DeviceMismatchError, match=r"matmul: .* on cuda:0.* on cuda:1"):
            check_same_device("matmul", x, y)
        assert check_same_device("matmul", y, 2.0, y) is cupy_standin


class TestCupy:
    def test_is_the_installed_module(self, cupy_standin):
        assert cupy() is cupy_standin
        assert cupy_if_loaded() is cupy_standin

    def test_not_installed(self, fresh, monkeypatch):
        monkeypatch.setitem(sys.modules, "cupy", None)
        with pytest.raises(DeviceNotAvailableError, match="CuPy is not installed"):
            cupy()
        assert describe_devices() == array_module.DeviceReport(
            (), None, "CuPy is not installed (pip install 'gpugrad[cuda13]' or 'gpugrad[cuda12]')"
        )

    def test_broken_installation_gives_its_reason(self, fresh, monkeypatch, tmp_path):
        (tmp_path / "cupy.py").write_text("raise OSError('libcudart.so: cannot open')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        with pytest.raises(DeviceNotAvailableError, match=r"does not load: libcudart\.so"):
            cupy()

    def test_no_driver_gives_its_reason(self, cupy_standin, monkeypatch):
        def no_driver():
            raise cupy_standin.cuda.runtime.CUDARuntimeError("cudaErrorInsufficientDriver")

        monkeypatch.setattr(cupy_standin.cuda.runtime, "getDeviceCount", no_driver)
        with pytest.raises(DeviceNotAvailableError, match="no usable GPU: cudaErrorInsufficient"):
            cupy()
        assert describe_devices().cupy_version == cupy_standin.__version__
        assert "cudaErrorInsufficientDriver" in describe_devices().reason

    def test_no_device_is_a_reason(self, cupy_standin, monkeypatch):
        monkeypatch.setattr(cupy_standin.cuda.runtime, "getDeviceCount", lambda: 0)
        with pytest.raises(DeviceNotAvailableError, match="no usable GPU: 0 devices"):
            to_device([1.0], "cuda")

    def test_report_lists_every_gpu(self, cupy_standin):
        report = describe_devices()
        assert [str(found.device) for found in report.devices] == ["cuda:0", "cuda:1"]
        assert report.devices[0].compute_capability == "9.0"
        assert report.reason is None

    def test_importing_the_backend_does_not_import_cupy(self):
        program = (
            "import sys; import gpugrad.backend.array_module as m, gpugrad.backend.vocabulary;"
            "import numpy; assert m.get_array_module(numpy.ones(3)) is numpy;"
            "assert m.to_device([1]).shape == (1,); assert m.current_device().kind == 'cpu';"
            "sys.exit('cupy' in sys.modules)"
        )
        output_of(program)


class TestParseDevice:
    @pytest.mark.parametrize(
        "name, device, text",
        [
            ("cpu", Device("cpu"), "cpu"),
            ("cuda", Device("cuda", 0), "cuda:0"),
            ("cuda:0", Device("cuda", 0), "cuda:0"),
            ("cuda:12", Device("cuda", 12), "cuda:12"),
        ],
    )
    def test_name(self, name, device, text):
        assert parse_device(name) == device
        assert str(device) == text
        assert parse_device(device) is device
        assert parse_device(text) == device

    @pytest.mark.parametrize(
        "name", ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1.0", "CUDA", "cuda:²", 0]
    )
    def test_other_names_raise(self, name):
        with pytest.raises(ParameterError, match=r'device: got .*, expected "cpu", "cuda"'):
            parse_device(name)

    def test_cupys_own_device(self, cupy_standin):
        assert parse_device(cupy_standin.cuda.Device(1)) == Device("cuda", 1)

    def test_none_is_the_current_device(self):
        assert parse_device(None) == current_device()

    def test_cuda_without_number_is_the_gpu_in_use(self, cupy_standin):
        with use_device("cuda:1"):
            assert parse_device("cuda") == Device("cuda", 1)
        assert parse_device("cuda") == Device("cuda", 0)


class TestUseDevice:
    def test_with_block_restores(self, cupy_standin):
        assert current_device() == Device("cpu")
        with use_device("cuda") as device:
            assert device == current_device() == Device("cuda", 0)
            with use_device("cpu"):
                assert current_device() == Device("cpu")
            assert current_device() == Device("cuda", 0)
        assert current_device() == Device("cpu")

    def test_with_block_restores_after_an_exception(self, cupy_standin):
        with pytest.raises(ZeroDivisionError), use_device("cuda"):
            1 / 0  # noqa: B018
        assert current_device() == Device("cpu")

    def test_setter_lasts_and_belongs_to_its_thread(self, cupy_standin):
        seen = []

        def chooses():
            use_device("cuda:1")
            seen.append(current_device())

        thread = threading.Thread(target=chooses)
        thread.start()
        thread.join()
        assert seen == [Device("cuda", 1)]
        assert current_device() == Device("cpu")

    def test_missing_gpu_raises_and_changes_nothing(self, cupy_standin):
        with pytest.raises(DeviceNotAvailableError, match=r"cuda:7: this machine has 2 GPU"):
            use_device("cuda:7")
        assert current_device() == Device("cpu")

    def test_environment_variable_gives_the_default(self, cupy_standin, fresh, monkeypatch):
        monkeypatch.setenv("GPUGRAD_DEVICE", "cuda:1")
        assert current_device() == Device("cuda", 1)
        assert to_device([1.0]).device.id == 1
        monkeypatch.setenv("GPUGRAD_DEVICE", "cpu")  # read once
        assert current_device() == Device("cuda", 1)
        with use_device("cpu"):
            assert current_device() == Device("cpu")

    @pytest.mark.parametrize("value", ["", "  "])
    def test_empty_environment_variable_is_the_cpu(self, fresh, monkeypatch, value):
        monkeypatch.setenv("GPUGRAD_DEVICE", value)
        assert current_device() == Device("cpu")

    def test_bad_environment_variable_is_named(self, fresh, monkeypatch):
        monkeypatch.setenv("GPUGRAD_DEVICE", "tpu")
        with pytest.raises(ParameterError, match="environment variable GPUGRAD_DEVICE: .*'tpu'"):
            current_device()

    def test_environment_variable_with_a_missing_gpu_is_named(
        self, cupy_standin, fresh, monkeypatch
    ):
        monkeypatch.setenv("GPUGRAD_DEVICE", "cuda:9")
        with pytest.raises(DeviceNotAvailableError, match="GPUGRAD_DEVICE: cuda:9"):
            current_device()


class TestAcrossTheBus:
    @pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", "f8", "c8"])
    def test_there_and_back(self, device, dtype):
        x = np.array([[0, 1, 1], [1, 0, 0]], dtype)
        there = to_device(x, device)
        assert device_of(there) == parse_device(device)
        np.testing.assert_array_equal(asnumpy(there), x, strict=True)

    def test_already_there_is_the_same_array(self, device, as_device):
        x = as_device([1.0, 2.0])
        assert to_device(x, device) is x
        assert to_device(x, device_of(x)) is x

    def test_host_array_stays_itself(self):
        x = np.ones(3)
        assert asnumpy(x) is x
        assert to_device(x, "cpu") is x

    def test_copy_is_independent(self, cupy_standin):
        x = np.ones(3)
        y = to_device(x, "cuda")
        x[0] = 5
        assert y.tolist() == [1, 1, 1]
        back = asnumpy(y)
        back[1] = 7
        assert y.tolist() == [1, 1, 1]

    def test_between_gpus(self, cupy_standin):
        x = to_device([1.0, 2.0], "cuda:0")
        y = to_device(x, "cuda:1")
        assert device_of(y) == Device("cuda", 1)
        assert y.tolist() == [1.0, 2.0]
        assert device_of(to_device(y, "cpu")) == Device("cpu")

    @pytest.mark.parametrize("x", [2, 2.5, [1, 2], [[1.0], [2.0]]])
    def test_scalars_and_sequences_become_arrays_as_numpy_makes_them(self, device, x):
        made = to_device(x, device)
        np.testing.assert_array_equal(asnumpy(made), np.asarray(x), strict=True)

    def test_tensors_array_is_taken(self, device):
        x = np.ones(3)
        assert device_of(to_device(Handle(x), device)) == parse_device(device)
        np.testing.assert_array_equal(asnumpy(Handle(to_device(x, device))), x)

    def test_module_for(self, xp, device):
        assert module_for(device) is xp
        assert module_for() is np
        with use_device(device):
            assert module_for() is xp

    def test_on_makes_the_gpu_current(self, cupy_standin):
        with on("cuda:1"):
            assert cupy_standin.zeros(1).device.id == 1
        assert cupy_standin.zeros(1).device.id == 0
        with on("cpu"):
            assert cupy_standin.zeros(1).device.id == 0

    def test_on_a_missing_gpu_raises(self, cupy_standin):
        with pytest.raises(DeviceNotAvailableError, match="cuda:2"):
            on("cuda:2")

"""The one place that chooses between a body and a launcher."""

import threading

import pytest

from gpugrad.backend.twin import Primitive, kernels_enabled, primitive, use_kernels
from gpugrad.errors import ParameterError


def traced():
    """A primitive that tells which of its implementations ran and on what."""

    @primitive("double")
    def double(xp, x, y=None, *, name="none"):
        """Twice x."""
        return ("body", xp, name)

    return double


def test_body_is_handed_the_namespace_of_its_arrays(xp, as_device, vocabulary):
    which, namespace, name = traced()(as_device([1.0]), None, name="given")
    assert (which, name) == ("body", "given") and namespace is vocabulary


def test_launcher_of_the_device_stands_in_for_the_body(device, as_device):
    double = traced()
    double.attach(lambda x, y=None, **p: "gpu")
    double.attach(lambda x, y=None, **p: "host", device="cpu")
    assert double(as_device([1.0])) == ("host" if device == "cpu" else "gpu")
    with use_kernels(False):
        assert double(as_device([1.0]))[0] == "body"


def test_launcher_of_another_device_is_not_used(device, as_device):
    double = traced()
    double.attach(lambda *a, **p: "other", device="cuda" if device == "cpu" else "cpu")
    assert double(as_device([1.0]))[0] == "body"


def test_switch_is_a_setter_and_a_context_manager():
    with use_kernels(True):
        assert kernels_enabled()
        use_kernels(False)
        assert not kernels_enabled()
        with use_kernels(True):
            assert kernels_enabled()
        assert not kernels_enabled()
    assert kernels_enabled()


def test_switch_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), use_kernels(False):
        1 / 0  # noqa: B018
    assert kernels_enabled()


def test_switch_belongs_to_its_thread():
    seen = []
    with use_kernels(False):
        thread = threading.Thread(target=lambda: seen.append(kernels_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_switch_takes_nothing_but_a_flag():
    with pytest.raises(ParameterError, match=r"use_kernels: got 'no'"):
        use_kernels("no")


def test_unknown_device_is_named():
    with pytest.raises(ParameterError, match="double on device 'tpu'"):
        traced().attach(len, device="tpu")


def test_primitive_shows_its_name_and_launchers():
    double = traced()
    assert repr(double) == "<primitive double, launchers: none>"
    double.attach(len)
    assert isinstance(double, Primitive) and repr(double).endswith("launchers: cuda>")
    assert double.__doc__ == "Twice x."

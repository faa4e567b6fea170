"""The fixtures by which one test body runs on two libraries (a pytest plugin, see conftest.py).

    def test_softplus_of_zero_is_log_two(xp, as_device, host):
        assert host(...)

`xp` is the array library in turn: NumPy, the stand-in for CuPy, and the true CuPy where there is a
GPU. A test that takes `device`, `as_device` or `vocabulary` takes turns likewise.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest

from gpugrad.backend import array_module
from gpugrad.backend.vocabulary import Namespace, namespace_of
from tests import fake_cupy

#: Methods of an array that wait for the device and give a value, or all of them, to the host.
TO_HOST = ("get", "item", "tolist", "__bool__", "__int__", "__float__", "__complex__")
LIBRARIES = (
    pytest.param("numpy"),
    pytest.param("cupy-standin"),
    pytest.param("cupy", marks=pytest.mark.gpu),
)


@pytest.fixture
def cupy_standin() -> Iterator[Any]:
    """The stand-in, which is what `import cupy` gives during the test."""
    with fake_cupy.install() as module:
        yield module


@pytest.fixture
def no_waiting(
    cupy_standin: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AbstractContextManager[None]]:
    """`with no_waiting():` whatever would bring a value of the stand-in to the host raises."""

    def waits(*args: Any, **options: Any) -> Any:
        raise AssertionError("a value was brought to the host")

    @contextmanager
    def refusing() -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in TO_HOST:
                patch.setattr(cupy_standin.ndarray, name, waits)
            patch.setattr(cupy_standin, "asnumpy", waits)
            yield

    return refusing


@pytest.fixture(params=LIBRARIES)
def xp(request: pytest.FixtureRequest) -> Any:
    """The array library: the module `numpy`, the stand-in for `cupy`, or the true `cupy`."""
    if request.param == "numpy":
        return np
    if request.param == "cupy-standin":
        return request.getfixturevalue("cupy_standin")
    import cupy

    return cupy


@pytest.fixture
def device(xp: Any) -> str:
    """The name of the library's device: "cpu" or "cuda"."""
    return "cpu" if xp is np else "cuda"


@pytest.fixture
def vocabulary(xp: Any) -> Namespace:
    """The namespace that rules and primitives' bodies are handed for the library."""
    return namespace_of(xp)


@pytest.fixture
def as_device(device: str) -> Callable[..., Any]:
    """`as_device(x, dtype=None)`: a host array or nested list as an array of the library."""

    def copied(x: Any, dtype: Any = None) -> Any:
        return array_module.to_device(np.array(x, dtype), device)

    return copied


@pytest.fixture
def host(xp: Any) -> Callable[[Any], Any]:
    """`host(x)`: an array of the library, or a scalar, as a NumPy array."""
    return array_module.asnumpy

"""The stand-in for CuPy and the true one, held to one table."""

import json
import sys

import numpy as np
import pytest

from tests import fake_cupy
from tests.fake_cupy import refusals
from tests.fake_cupy.array import traffic
from tests.fake_cupy.record import surface
from tests.fake_cupy.surface import table


@pytest.fixture(params=[pytest.param("stand-in"), pytest.param("true CuPy", marks=pytest.mark.gpu)])
def cp(request):
    if request.param == "stand-in":
        return request.getfixturevalue("cupy_standin")
    return pytest.importorskip("cupy", reason="CuPy is not installed")


def by_name(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


# NumPy 2 first warns that CuPy's __array__ has no parameter `copy`, then calls it without.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@by_name(refusals.REFUSALS)
def test_refuses(cp, row):
    with pytest.raises(row.raises):
        row.call(cp)


@by_name(refusals.BEHAVIOURS)
def test_gives(cp, row):
    result = row.call(cp)
    if isinstance(row.gives, np.ndarray):
        assert isinstance(result, cp.ndarray)
        assert result.dtype == row.gives.dtype
        np.testing.assert_array_equal(result.get(), row.gives, strict=True)
    else:
        assert not isinstance(result, cp.ndarray)
        assert result == row.gives


def test_rows_have_names_of_their_own():
    names = [row.name for row in refusals.TABLE]
    assert sorted(set(names)) == sorted(names)


def test_recorded_surface_is_that_of_the_installed_cupy():
    # No GPU is needed to list names. Another release differs, and then the table is not its own.
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    if cupy.__version__ != table()["version"]:
        pytest.skip(f"the table is of CuPy {table()['version']}, installed is {cupy.__version__}")
    if sys.version_info[:2] != (3, 11):
        pytest.skip(
            "the table was made on Python 3.11; signatures read otherwise on other versions"
        )
    assert json.loads(json.dumps(surface(cupy))) == table()


def test_standin_has_exactly_the_names_of_cupy():
    standin = fake_cupy.module()
    offered = {name for name in vars(standin) if not name.startswith("_")}
    assert offered ^ set(table()["cupy"]) == {"polynomial", "testing", "typing"}  # modules


def test_standin_array_has_no_attribute_that_cupy_lacks():
    ours = {name for name in dir(fake_cupy.module().ndarray) if name not in dir(object)}
    private = {"_host", "_device_id", "__weakref__"}
    assert (
        sorted(
            ours
            - private
            - set(table()["ndarray"])
            - {"__annotations__", "__firstlineno__", "__static_attributes__"}
        )
        == []
    )


def test_calling_what_the_standin_does_not_imitate_says_so(cupy_standin):
    with pytest.raises(NotImplementedError, match=r"cupy\.fuse"):
        cupy_standin.fuse(lambda x: x)


def test_of_duplicate_indices_the_standin_keeps_the_first(cupy_standin):
    # CuPy leaves the winner open; a test that relies on NumPy's last one must fail here.
    x = cupy_standin.zeros(2)
    x[cupy_standin.asarray([0, 0])] = cupy_standin.asarray([1.0, 2.0])
    assert x.tolist() == [1.0, 0.0]


def test_standin_counts_what_crosses_the_bus(cupy_standin):
    before = traffic.to_host, traffic.to_device
    x = cupy_standin.asarray(np.ones(3))
    y = cupy_standin.exp(x).sum()
    assert (traffic.to_host, traffic.to_device) == (before[0], before[1] + 1)
    y.item()
    assert traffic.to_host == before[0] + 1


def test_standin_refuses_arrays_of_two_devices(cupy_standin):
    x = cupy_standin.ones(3)
    with cupy_standin.cuda.Device(1):
        y = cupy_standin.ones(3)
        assert y.device.id == 1
        with pytest.raises(ValueError, match="different from the current device"):
            cupy_standin.add(x, y)


def test_install_leaves_no_trace():
    before = sys.modules.get("cupy")
    with fake_cupy.install() as module:
        import cupy

        assert cupy is module
    assert sys.modules.get("cupy") is before


@pytest.mark.parametrize(
    "ask",
    [
        lambda cp, x: float(x),
        lambda cp, x: int(x),
        lambda cp, x: bool(x),
        lambda cp, x: complex(x),
        lambda cp, x: x.get(),
        lambda cp, x: x.item(),
        lambda cp, x: x.tolist(),
        lambda cp, x: cp.asnumpy(x),
    ],
)
def test_values_stay_on_the_device_where_no_waiting_is_asked_for(ask, cupy_standin, no_waiting):
    x = cupy_standin.ones(())
    with no_waiting():
        y = x + 1
        with pytest.raises(AssertionError, match="brought to the host"):
            ask(cupy_standin, y)
    assert np.all(ask(cupy_standin, y))

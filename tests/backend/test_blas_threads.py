"""The threads of NumPy's products: held to one for a while, and given back whatever happens."""

import os
import threading
from contextlib import ExitStack

import numpy as np
import pytest

from gpugrad.backend import blas_threads, host_threads
from gpugrad.backend.blas_threads import held_to_one, one_blas_thread
from gpugrad.backend.host_threads import allowed_threads, product


@pytest.fixture
def blas():
    """NumPy's OpenBLAS with two threads for the time of the test."""
    found = blas_threads._openblas()
    if found is None:
        pytest.skip("NumPy has no OpenBLAS with threads of its own")
    before = found.get_threads()
    found.set_threads(2)
    yield found
    found.set_threads(before)


def test_products_have_one_thread_within_and_two_again_after(blas):
    with one_blas_thread():
        assert held_to_one()
        assert blas.get_threads() == 1
        assert blas_threads.blas_threads() == 2  # what the user has set
    assert not held_to_one()
    assert blas.get_threads() == 2


def test_few_multiplications_change_nothing(blas):
    with one_blas_thread(blas_threads.MANY_MULTIPLICATIONS - 1):
        assert not held_to_one()
        assert blas.get_threads() == 2


@pytest.mark.parametrize("number", [1, 3])
def test_any_number_but_two_stays(blas, number):
    blas.set_threads(number)
    with one_blas_thread():
        assert not held_to_one()
        assert blas.get_threads() == number
    assert blas.get_threads() == number


def test_an_error_gives_the_threads_back(blas):
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        raise ValueError("inside")
    assert (held_to_one(), blas.get_threads()) == (False, 2)


def test_the_last_of_several_holders_gives_the_threads_back(blas):
    entered, leave = threading.Barrier(2, timeout=20), threading.Event()

    def other():
        with one_blas_thread():
            entered.wait()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        entered.wait()
    assert (held_to_one(), blas.get_threads()) == (True, 1)
    leave.set()
    thread.join()
    assert (held_to_one(), blas.get_threads()) == (False, 2)


def test_a_number_set_meanwhile_stays(blas):
    with one_blas_thread():
        blas.set_threads(3)
    assert blas.get_threads() == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_within_has_both_threads(blas):
    with one_blas_thread():
        child = os.fork()
        if child == 0:
            _end_child(lambda: (held_to_one(), blas.get_threads()) == (False, 2))
        assert os.waitpid(child, 0)[1] == 0
        assert held_to_one()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_within_can_leave_and_hold_again(blas):
    def leaves_and_holds():
        scope.close()
        with one_blas_thread():
            held = held_to_one()
        return held and blas.get_threads() == 2

    with ExitStack() as scope:
        scope.enter_context(one_blas_thread())
        child = os.fork()
        if child == 0:
            _end_child(leaves_and_holds)
        assert os.waitpid(child, 0)[1] == 0


def _end_child(check):
    """End a forked process, or it would go on with the tests: status 0 only if `check()`."""
    status = 1
    try:
        status = 0 if check() else 1
    finally:
        os._exit(status)


def test_array_work_has_as_many_threads_as_products_may_have(blas, monkeypatch):
    monkeypatch.setattr(host_threads, "available_cpus", lambda: 4)
    assert allowed_threads() == 2
    with one_blas_thread():
        assert allowed_threads() == 2
    blas.set_threads(1)
    assert allowed_threads() == 1
    monkeypatch.setattr(host_threads, "available_cpus", lambda: 1)
    blas.set_threads(2)
    assert allowed_threads() == 1


def test_threadpoolctl_is_obeyed(blas):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert allowed_threads() == 1
        with one_blas_thread():
            assert not held_to_one()


@pytest.mark.parametrize(("told", "threads"), [("1", 1), ("8", 8), ("", None), ("4,2", None)])
def test_without_openblas_the_environment_is_asked(monkeypatch, told, threads):
    monkeypatch.setattr(blas_threads, "_openblas", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert blas_threads.blas_threads() == threads
    with one_blas_thread():
        assert not held_to_one()


@pytest.mark.parametrize("given", [True, False])
def test_a_product_cut_by_rows_is_the_product(blas, monkeypatch, given):
    monkeypatch.setattr(host_threads, "available_cpus", lambda: 2)
    draw = np.random.default_rng(0)
    # small integers: every order of the sums gives the same bits
    a, b = (draw.integers(-8, 8, shape).astype("float32") for shape in ((333, 200), (200, 170)))
    cuts = []
    monkeypatch.setattr(np, "matmul", _recording(np.matmul, cuts))
    out = np.empty((333, 170), "float32") if given else None
    with one_blas_thread():
        got = product(a, b.T.copy().T, out)
    assert given == (got is out)
    assert sorted(cuts) == [160, 173]
    assert np.array_equal(got, a @ b)
    assert np.array_equal(product(a, b), a @ b)
    assert cuts[-1] == 333


@pytest.mark.parametrize("nested", [False, True])
def test_the_cut_of_a_product_does_not_depend_on_whether_the_second_thread_is_free(
    blas, monkeypatch, nested
):
    monkeypatch.setattr(host_threads, "available_cpus", lambda: 2)
    draw = np.random.default_rng(0)
    a, b = (draw.normal(size=shape).astype("float32") for shape in ((500, 784), (784, 500)))
    cuts = []
    monkeypatch.setattr(np, "matmul", _recording(np.matmul, cuts))

    def multiplied():
        cuts.clear()
        found = []
        if nested:  # on spans of something else, which two threads share
            task = lambda start, stop: found.extend(product(a, b) for _ in range(start, stop))
            host_threads.over_spans(task, 2, values_each=10**6)
        else:
            found.append(product(a, b))
        return found, sorted(cuts)

    with one_blas_thread():
        free, cut = multiplied()
        with host_threads._the_worker().free:
            busy, cut_of_one_thread = multiplied()
    assert cut == cut_of_one_thread == ([500, 500] if nested else [244, 256])
    assert np.array_equal(free, busy)


def test_the_cut_of_a_product_within_spans_does_not_depend_on_the_number_of_cpus(blas, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype("float32") for shape in ((500, 784), (784, 500)))
    cuts = []
    monkeypatch.setattr(np, "matmul", _recording(np.matmul, cuts))
    for cpus in (1, 2):
        monkeypatch.setattr(host_threads, "available_cpus", lambda n=cpus: n)
        with one_blas_thread():
            host_threads.over_spans(lambda start, stop: product(a, b), 2, values_each=10**6)
    assert set(cuts) == {500}


def _recording(matmul, rows):
    def recording(a, b, out=None):
        rows.append(len(a))
        return matmul(a, b, out=out)

    return recording

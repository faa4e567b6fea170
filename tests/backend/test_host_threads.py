"""The second thread: every element once, whatever the number of threads; errors come back."""

import os
import threading

import numpy as np
import pytest

from gpugrad.backend import host_threads
from gpugrad.backend.host_threads import over_spans, scratch_array

MANY = 10 * host_threads.MIN_VALUES_PER_THREAD


def spans_of(length, **how):
    spans = []
    over_spans(lambda start, stop: spans.append((start, stop)), length, **how)
    return sorted(spans)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 1000, 1001])
@pytest.mark.parametrize("multiple_of", [1, 8])
@pytest.mark.parametrize("threads", [1, 2])
def test_spans_cover_everything_once(length, multiple_of, threads):
    spans = spans_of(length, values_each=MANY, multiple_of=multiple_of, threads=threads)
    assert [i for start, stop in spans for i in range(start, stop)] == list(range(length))
    assert all(start % multiple_of == 0 for start, _ in spans)
    assert len(spans) == (2 if threads == 2 and length > multiple_of else 1)


def test_nothing_to_do_calls_nothing():
    assert spans_of(0) == []


def test_short_work_stays_on_the_calling_thread():
    names = set()
    over_spans(lambda start, stop: names.add(threading.current_thread().name), 100, threads=2)
    assert names == {threading.current_thread().name}


def test_spans_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=20)
    over_spans(lambda start, stop: meeting.wait(), 2, values_each=MANY, threads=2)


@pytest.mark.parametrize("failing", [0, 1])
def test_errors_of_both_threads_reach_the_caller(failing):
    def task(start, stop):
        if start == failing:
            raise ValueError(f"span {start}")

    with pytest.raises(ValueError, match=f"span {failing}"):
        over_spans(task, 2, values_each=MANY, threads=2)
    assert spans_of(2, values_each=MANY, threads=2) == [(0, 1), (1, 2)]


def test_products_within_spans_are_whole_on_one_thread_as_on_two(monkeypatch):
    """Where a product is cut decides its last bits; alone, and within short work, it is cut."""
    heights, matmul = [], np.matmul
    monkeypatch.setattr(host_threads, "held_to_one", lambda: True)
    monkeypatch.setattr(
        host_threads.np, "matmul", lambda a, *b, **c: heights.append(len(a)) or matmul(a, *b, **c)
    )
    a, b = np.ones((320, 64), "float32"), np.ones((64, 256), "float32")
    for items, threads, expected in ((4, 1, [320]), (4, 2, [320] * 2), (1, 2, [160] * 2)):
        heights.clear()
        over_spans(
            lambda start, stop: host_threads.product(a, b),
            items,
            values_each=MANY,
            threads=threads,
        )
        assert heights == expected


def test_nested_and_concurrent_calls_do_not_wait_for_each_other():
    counts = np.zeros(64, int)

    def outer(start, stop):
        over_spans(lambda a, b: None, 2, values_each=MANY, threads=2)
        counts[start:stop] += 1

    threads = [
        threading.Thread(target=over_spans, args=(outer, 64), kwargs={"values_each": MANY})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert (counts == 4).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_gets_a_thread_of_its_own():
    spans_of(2, values_each=MANY, threads=2)
    child = os.fork()
    if child == 0:
        os._exit(0 if spans_of(2, values_each=MANY, threads=2) == [(0, 1), (1, 2)] else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_scratch_is_reused_by_name_and_not_shared_between_threads():
    first = scratch_array("test", (4, 5), np.dtype(np.float32))
    assert np.shares_memory(first, scratch_array("test", (5, 2), np.dtype(np.float32)))
    assert not np.shares_memory(first, scratch_array("other", (4, 5), np.dtype(np.float32)))
    seen = []
    thread = threading.Thread(
        target=lambda: seen.append(scratch_array("test", (4, 5), np.dtype(np.float32)))
    )
    thread.start()
    thread.join()
    assert not np.shares_memory(first, seen[0])


def test_large_scratch_is_not_kept():
    size = 8 * host_threads.BLOCK_VALUES + 1
    first = scratch_array("large", (size,), np.dtype(np.float32))
    assert not np.shares_memory(first, scratch_array("large", (size,), np.dtype(np.float32)))

"""The benchmarks' own tool measures what it says."""

from __future__ import annotations

import time

import pytest

from tests.bench import harness


def test_race_orders_contestants_by_their_time():
    timings = harness.race(
        {"long": lambda: time.sleep(0.02), "short": lambda: time.sleep(0.002)},
        rounds=3,
        seconds_per_round=0.01,
    )
    assert list(timings) == ["long", "short"]
    assert timings["short"].minimum < timings["long"].minimum
    assert timings["long"].minimum >= 0.02


def test_race_gives_every_contestant_each_place_in_the_order():
    order: list[str] = []
    contestants = {name: lambda name=name: order.append(name) for name in "abc"}
    harness.race(contestants, rounds=3, seconds_per_round=1e-9, warm_up=0)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert "".join(turns).endswith("abcbcacab")


def test_table_and_verdict_compare_minima():
    timings = {"a": harness.Timing(2e-3, 4e-3, 5), "b": harness.Timing(1e-3, 1e-3, 5)}
    assert "| a | 2 ms | 4 ms | 2 | 4 |" in harness.table("title", timings, against="b")
    assert harness.verdict(timings, "a", "b", 2.5).strip().endswith("= 2, budget 2.5: met")
    assert harness.verdict(timings, "a", ["b", "b"], 0.9).strip().endswith("budget 0.9: MISSED")


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (4.5e-6, "4.5 us"), (7e-9, "7 ns")]
)
def test_times_are_readable(seconds, text):
    assert harness.readable(seconds) == text


def test_missing_contestant_is_named():
    assert harness.missing("math") is None
    assert "no_such_module" in (harness.missing("math", "no_such_module") or "")

"""`gpugrad evaluate` of machines of any units, depth and lateral couplings."""

import importlib
import io
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer", reason="typer is not installed")

from rich.console import Console

from gpugrad.backend.rng import Generator
from gpugrad.boltzmann.model import RBM
from gpugrad.boltzmann.partition import exact_log_partition, likelihood_bounds
from gpugrad.cli.evaluate import tell
from tests.boltzmann.coins import bits
from tests.boltzmann.grid_machines import grid_machine

from .runner import assert_one_line_error, invoke

MACHINES = [
    (("bernoulli", "bernoulli", "bernoulli"), (4, 3, 3), ()),
    (("bernoulli", "gaussian"), (4, 1), ()),
    (("bernoulli",), (5,), (0,)),
    (("bernoulli", "relu"), (3, 1), ()),
]
machines = pytest.mark.parametrize(
    ("kinds", "sizes", "lateral"), MACHINES, ids=lambda x: "-".join(map(str, x)) or "none"
)


def saved(tmp_path, kinds, sizes, lateral):
    """A machine and samples of its own in files; returns the machine and its list."""
    model, exact = grid_machine(np, kinds, sizes, lateral=lateral)
    model.save(tmp_path / "m")
    np.save(tmp_path / "x.npy", exact.draw(np, 400, 1).visible.astype("uint8"))
    return model, exact


@machines
def test_evaluate_is_exact_where_states_can_be_listed(tmp_path, kinds, sizes, lateral):
    model, exact = saved(tmp_path, kinds, sizes, lateral)
    found = json.loads(invoke("evaluate", tmp_path / "m", tmp_path / "x.npy", "--json").stdout)
    expected = likelihood_bounds(model, np.load(tmp_path / "x.npy"), exact.log_z()).mean()
    assert found["method"] == "exact" and found["bound"] is (len(kinds) > 2)
    assert found["log_z"] == pytest.approx(exact.log_z(), abs=1e-8)
    assert found["log_likelihood"] == pytest.approx(expected, abs=1e-8)
    told = invoke("evaluate", tmp_path / "m", tmp_path / "x.npy").stdout
    assert ("lower bound by mean field" in told) is (len(kinds) > 2)


@machines
def test_evaluate_brackets_other_machines(tmp_path, monkeypatch, kinds, sizes, lateral):
    """As if no state could be listed; six standard errors, false alarm below 1e-7 in all."""
    model, _ = saved(tmp_path, kinds, sizes, lateral)
    log_z = exact_log_partition(model)
    command = importlib.import_module("gpugrad.cli.evaluate")
    monkeypatch.setattr(command, "is_enumerable", lambda model: False)
    arguments = ("evaluate", tmp_path / "m", tmp_path / "x.npy", "--temperatures", 60)
    result = invoke(*arguments, "--chains", 300, "--json")
    found = json.loads(result.stdout)
    up, down = found["optimistic"], found["conservative"]
    assert (up["estimator"], down["estimator"]) == ("ais", "raise")
    assert abs(up["log_z"] - log_z) < 6 * up["error"] + 1e-3
    assert down["log_z"] > log_z - 6 * down["error"] and down["log_z"] < log_z + 0.5
    assert found["bound"] is (len(kinds) > 2)
    told = invoke(*arguments).stdout
    assert "by RAISE (errs low)" in told
    assert ("by AIS (lower bound by mean field)" in told) is (len(kinds) > 2)


def test_evaluate_refuses_a_single_chain_for_any_machine(tmp_path):
    saved(tmp_path, *MACHINES[0])
    result = invoke("evaluate", tmp_path / "m", tmp_path / "x.npy", "--chains", 1)
    assert_one_line_error(result, "evaluate: --chains is 1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "evaluate: data has NaN, first in sample 3, unit 1; expected complete samples"),
        (("--threshold", 0.5), "evaluate: data has missing values (NaN), a threshold expects"),
    ],
)
def test_missing_values_are_refused_without_an_option_that_evaluate_lacks(
    tmp_path, options, message
):
    saved(tmp_path, *MACHINES[0])
    holes = np.ones((10, 4))
    holes[3, 1] = np.nan
    np.save(tmp_path / "holes.npy", holes)
    result = invoke("evaluate", tmp_path / "m", tmp_path / "holes.npy", *options)
    assert_one_line_error(result, message)
    assert "--missing" not in result.stderr


def side(log_likelihood: float, error: float | None, ess: float = 5.0) -> dict[str, Any]:
    return {"log_z": 1.0, "error": error, "ess": ess, "log_likelihood": log_likelihood}


@pytest.mark.parametrize(
    ("ess", "chains", "said"),
    [(1.1, 100, True), (4.9, 100, True), (5.0, 100, False), (1.9, 2, False), (1.1, 4, True)],
)
def test_an_error_that_rests_on_few_chains_is_said_to_mean_nothing(ess, chains, said):
    text = io.StringIO()
    sides = {"optimistic": side(-70.0, 0.1, ess), "conservative": side(-71.0, 0.1)}
    found = {"method": "annealing", "test_samples": 100, "chains": chains, "temperatures": 10}
    tell(Console(file=text, width=500), found | sides)
    assert ("makes the error of AIS mean nothing" in text.getvalue()) is said


@pytest.mark.parametrize(
    ("high", "low", "said"),
    [
        (side(-70.0, 0.1), side(-73.5, 0.1), "the two sides are 3.5 nats apart"),
        (side(-73.5, 0.1), side(-70.0, 0.1), "the conservative side lies 3.5 nats above"),
        (side(-73.5, None), side(-70.0, 1.0), None),  # an infinite error explains any gap
        (side(-73.5, 1.0), side(-70.0, 1.0), None),
        (side(-70.0, 0.1), side(-71.0, 0.1), None),
    ],
)
def test_a_wide_or_inverted_bracket_is_pointed_out(high: Any, low: Any, said: str | None):
    text = io.StringIO()
    found = {"optimistic": high, "conservative": low, "method": "annealed", "test_samples": 100}
    tell(Console(file=text, width=500), {**found, "chains": 100, "temperatures": 1000})
    lines = [line for line in text.getvalue().splitlines() if line.startswith("the ")]
    assert len(lines) == (said is not None)
    assert said is None or lines[0].startswith(said)


def test_the_data_of_a_run_are_taken_as_states_above_a_threshold(tmp_path):
    grey = np.random.default_rng(0).random((40, 6))
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "states.npy", (grey > 0.6).astype("uint8"))
    run = tmp_path / "run"
    settings = ("--hidden", 3, "--epochs", 1, "--no-evaluate")
    assert invoke("train", tmp_path / "grey.npy", "-o", run, *settings).exit_code == 0
    assert_one_line_error(invoke("evaluate", run), "--threshold")
    found = json.loads(invoke("evaluate", run, "--threshold", 0.6, "--json").stdout)
    expected = json.loads(invoke("evaluate", run, tmp_path / "states.npy", "--json").stdout)
    assert found["log_likelihood"] == expected["log_likelihood"]


def test_a_data_key_without_data_is_refused(tmp_path):
    saved(tmp_path, *MACHINES[0])
    assert_one_line_error(
        invoke("evaluate", tmp_path / "m", "--data-key", "x"), "--data-key is 'x', expected it with"
    )


def test_annealing_starts_above_at_the_base_s_data_and_below_at_random_test_samples(monkeypatch):
    command = importlib.import_module("gpugrad.cli.evaluate")
    given = {}

    def watched(name):
        estimate = getattr(command, name)

        def estimating(model, *arguments, **how):
            given[name] = arguments[0], how["data"]
            return estimate(model, *arguments, **how)

        return estimating

    monkeypatch.setattr(command, "is_enumerable", lambda model: False)
    for name in ("ais", "raise_"):
        monkeypatch.setattr(command, name, watched(name))
    test, base = bits(6)[:40], bits(6)[40:]
    console = Console(file=io.StringIO())
    how = {"temperatures": 3, "chains": 10, "console": console, "name": "x", "split": "test"}
    command.measure(RBM(6, 3, device="cpu"), test, base, Generator(0), **how)
    samples, of_raise = given["raise_"]
    assert given["ais"][1] is base and of_raise is base
    rows = [tuple(row) for row in samples]
    assert len(rows) == len(set(rows)) == 10
    assert set(rows) < {tuple(row) for row in test}
    assert rows != [tuple(row) for row in test[:10]]

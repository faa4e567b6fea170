"""States, and the checks on data that people bring."""

import numpy as np
import pytest

from gpugrad.boltzmann.state import State, check_data
from gpugrad.errors import DataError

from .machines import host, small_machine


def test_a_state_is_its_layers():
    v, h = np.zeros((5, 3)), np.ones((5, 2))
    state = State([v, h])
    assert state.visible is state[0] is v
    assert state.hidden is state[1] is h
    assert (state.num_samples, len(state)) == (5, 2)
    assert [x is y for x, y in zip(state, (v, h), strict=True)] == [True, True]


def test_entries_may_be_missing():
    state = State((None, np.ones((5, 2))))
    assert state.num_samples == 5
    assert state.copy().visible is None


def test_replace_changes_one_layer_of_a_new_state():
    v, h, u = np.zeros((5, 3)), np.ones((5, 2)), np.ones((5, 3))
    state = State((v, h))
    other = state.replace(0, u)
    assert other.visible is u and other.hidden is h and state.visible is v


def test_a_copy_shares_no_memory():
    state = State((np.zeros((2, 2)), np.zeros((2, 2))))
    assert not any(np.shares_memory(x, y) for x, y in zip(state, state.copy(), strict=True))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("bernoulli", [[0, 1, 0, 1]]),
        ("bernoulli", [[0.0, 0.25, 0.5, 1.0]]),
        ("ising", [[-1, 1, 1, -1]]),
        ("ising", [[-1.0, 0.0, 0.5, 1.0]]),
        ("bernoulli", np.array([[True, False, True, True]])),
        ("bernoulli", np.array([[1, 0, 1, 1]], dtype="uint8")),
    ],
)
def test_good_data_comes_back_in_the_type_and_place_of_the_model(xp, kind, data):
    model, _ = small_machine(xp, (kind, "bernoulli"), dtype="float32")
    got = check_data(model, data)
    assert got.dtype == "float32"
    assert type(got) is type(model.weights[0].W())
    np.testing.assert_array_equal(host(got), np.asarray(data, dtype="float32"))


def test_data_of_the_right_type_is_not_copied(xp):
    model, exact = small_machine(xp)
    data = xp.asarray(exact.v)
    assert check_data(model, data) is data


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (
            "bernoulli",
            [[0, 1, np.nan, 0], [0, 0, 0, 0]],
            r"f: data has NaN, first in sample 0, unit 2",
        ),
        (
            "bernoulli",
            [[0, 1, 2, 0]],
            r"f: data lies in \[0, 2\], bernoulli units take values in \[0, 1\]",
        ),
        ("bernoulli", [[0, -1, 1, 0]], r"f: data lies in \[-1, 1\], bernoulli"),
        ("bernoulli", [[0, np.inf, 1, 0]], r"f: data lies in \[0, inf\]"),
        (
            "ising",
            [[0, 1, 1.5, 0]],
            r"f: data lies in \[0, 1.5\], ising units take values in \[-1, 1\]",
        ),
        ("bernoulli", [[0, 1, 1]], r"f: data has shape \(1, 3\), expected \(samples, 4\)"),
        ("bernoulli", [0, 1, 1, 0], r"f: data has shape \(4,\)"),
        ("bernoulli", np.zeros((0, 4)), r"f: data has no samples \(shape \(0, 4\)\)"),
        ("bernoulli", [["a", "b", "c", "d"]], r"f: data has dtype <U1, expected real numbers"),
        ("bernoulli", [[0, 1j, 0, 0]], r"f: data has dtype complex128"),
        (
            "ising",
            np.array([[0, 1, 1, 0]], "uint8"),
            r"f: data of uint8 has values that are no states of ising units, expected -1 and 1",
        ),
        ("ising", np.eye(4, dtype=bool), r"f: data of bool has values that are no states"),
    ],
)
def test_bad_data_is_named(kind, data, message):
    model, _ = small_machine(np, (kind, "bernoulli"))
    with pytest.raises(DataError, match=message):
        check_data(model, data, function="f")


@pytest.mark.parametrize(("kind", "grey"), [("bernoulli", 0.5), ("ising", 0.0)])
def test_grey_values_are_refused_where_states_are_needed(kind, grey):
    model, exact = small_machine(np, (kind, "bernoulli"))
    check_data(model, exact.v, support=True)
    with pytest.raises(DataError, match="values between"):
        check_data(model, np.full((2, 4), grey), support=True)

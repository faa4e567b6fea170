"""What MyGrad's manual says holds under mygrad 2.5.0 and under gpugrad."""

from __future__ import annotations

import pytest

import gpugrad as gg
from tests.parity import manual_functions, manual_semantics
from tests.parity.differential.differences import DIFFERENCES
from tests.parity.manual import PROGRAMS, tensor_of
from tests.parity.manual_functions import VALUES

mg = pytest.importorskip("mygrad", reason="mygrad is not installed")

# program -> the row of the table of deliberate differences for which mygrad fails it
ONLY_HERE = {
    "manual_astype_keeps_a_constant": "astype",
    "views_tie_their_gradients_after_the_graph_is_gone": "views stay",
    "numbers_take_the_dtype_of_the_array_beside_them": "numbers",
    "a_second_backward_needs_a_new_graph": "cleared graph",
    "a_norm_of_zero_has_a_gradient_if_asked_for": "finite gradient",
}


def test_programs_of_both_modules_are_run():
    modules = {f.__module__ for f in PROGRAMS.values()}
    assert modules == {manual_functions.__name__, manual_semantics.__name__}


@pytest.mark.parametrize("m", [mg, gg], ids=["mygrad", "gpugrad"])
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in ONLY_HERE])
def test_manual_holds(name, m):
    PROGRAMS[name](m)


@pytest.mark.parametrize("m", [mg, gg], ids=["mygrad", "gpugrad"])
@pytest.mark.parametrize("name", VALUES)
def test_value_of_the_manual_is_found(name, m):
    call, expected = VALUES[name]
    tensor_of(m, call(m), expected)


@pytest.mark.parametrize("name", ONLY_HERE)
def test_manual_holds_here_where_mygrad_fails_it(name):
    PROGRAMS[name](gg)
    with pytest.raises(AssertionError):
        PROGRAMS[name](mg)
    assert ONLY_HERE[name] in DIFFERENCES

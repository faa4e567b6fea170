"""Learning rates over the course of training."""

import math

import pytest

from gpugrad.boltzmann import schedules
from gpugrad.boltzmann.agreement import of_length
from gpugrad.boltzmann.schedules import Constant, Exponential, Linear, Step
from gpugrad.errors import CheckpointError, ParameterError


@pytest.mark.parametrize(
    "schedule, position, rate",
    [
        (Constant(0.1), 0, 0.1),
        (Constant(0.1), 7.5, 0.1),
        (Linear(0.1), 0, 0.1),
        (Linear(0.1), 5, 0.05),
        (Linear(0.1), 10, 0.0),
        (Linear(0.1, 0.02), 5, 0.06),
        (Exponential(0.1, 0.001), 5, 0.01),
        (Exponential(0.1), 10, 0.001),
        (Step(0.1, 0.5, 4), 3.99, 0.1),
        (Step(0.1, 0.5, 4), 4, 0.05),
        (Step(0.1, 0.5, 4), 8, 0.025),
    ],
)
def test_rate_at_a_position_of_ten_epochs(schedule, position, rate):
    assert schedule(position, 10) == pytest.approx(rate, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("n_batches", [3, 7, 600])
def test_a_step_falls_exactly_at_the_end_of_an_epoch(n_batches):
    schedule = Step(1.0, 0.5, 1)
    rates = [schedule(step / n_batches, 9) for step in range(9 * n_batches)]
    assert rates == [0.5**epoch for epoch in range(9) for _ in range(n_batches)]


@pytest.mark.parametrize(
    "schedule", [Constant(0.1), Linear(0.1, 0.01), Exponential(0.2), Step(1, 0.1, 3)]
)
def test_a_schedule_comes_back_from_its_configuration(schedule):
    assert schedules.from_config(schedule.get_config()) == schedule


def test_a_number_is_a_constant_rate_and_a_function_stays():
    assert schedules.as_schedule(0.3) == Constant(0.3)
    assert schedules.as_schedule(max) is max


@pytest.mark.parametrize("rate", [-0.1, 0, math.nan, math.inf, "fast", True])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(ParameterError, match="rate is .*, expected a finite number above 0"):
        Linear(rate)


def test_settings_out_of_range_and_unknown_names_are_refused():
    with pytest.raises(ParameterError, match="Linear: final is -1"):
        Linear(0.1, -1)
    with pytest.raises(ParameterError, match="Exponential: final is 0"):
        Exponential(0.1, 0)
    with pytest.raises(ParameterError, match="Step: factor is 2"):
        Step(0.1, factor=2)
    with pytest.raises(ParameterError, match="no schedule 'cosine', known are"):
        schedules.get("cosine", 0.1)
    with pytest.raises(ParameterError, match="constant does not take"):
        schedules.get("constant", 0.1, final=0.01)
    assert schedules.get("constant", 0.1, final=None) == Constant(0.1)


def test_a_variant_without_a_name_of_its_own_takes_no_one_s_place():
    class Hastier(Linear):
        pass

    assert type(schedules.from_config(Linear(0.1).get_config())) is Linear


def test_a_name_without_a_rate_is_refused_with_what_makes_one_of_it():
    with pytest.raises(ParameterError, match="schedules.get..linear., 0.01"):
        schedules.as_schedule("linear")


def test_a_schedule_derived_from_a_constant_one_is_not_taken_for_one_of_any_length():
    class Falling(Constant):
        def __call__(self, position, length):
            return self.rate * (1 - position / length)

    was, mine = {"epochs": 2, "average_epochs": 0.0}, {"epochs": 4, "average_epochs": 0.0}
    assert of_length(was, mine, Constant(0.1)) == mine
    with pytest.raises(CheckpointError, match="has other rates"):
        of_length(was, mine, Falling(0.1))

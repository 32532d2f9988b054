"""Learning rates as functions of the place in the schedule."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amla.spec.training import Constant, Cosine, CosineRestarts, Exponential, OneCycle, Training
from amla.trainers.schedules import AnySchedule, learning_rate

EPOCH = 10


def rate(schedule: AnySchedule, step: float, total: float = 100, warmup: float = 0.0) -> float:
    return learning_rate(Training(schedule=schedule, warmup=warmup), step, total, EPOCH)


def test_constant() -> None:
    assert rate(Constant(rate=0.3), 0) == rate(Constant(rate=0.3), 99) == 0.3


def test_exponential_in_whole_periods_or_smoothly() -> None:
    staircase, smooth = (Exponential(rate=1.0, factor=0.5, epochs=2.0, staircase=stairs) for stairs in (True, False))
    assert [rate(staircase, step) for step in (0, 19, 20, 40)] == [1.0, 1.0, 0.5, 0.25]
    assert rate(smooth, 10) == pytest.approx(math.sqrt(0.5))


def test_cosine_from_the_rate_to_the_minimum() -> None:
    cosine = Cosine(rate=1.0, minimum=0.2)
    assert [rate(cosine, step) for step in (0, 50, 100, 200)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_restarts_begin_again_each_time_later() -> None:
    restarts = CosineRestarts(rate=1.0, minimum=0.0, first=1.0, factor=2.0)
    assert [rate(restarts, step) for step in (0, 5, 10, 20, 30, 70)] == pytest.approx([1.0, 0.5, 1.0, 0.5, 1.0, 1.0])
    again = CosineRestarts(rate=1.0, minimum=0.0, first=1.0, factor=1.0)
    assert rate(again, 55) == pytest.approx(0.5)


def test_one_cycle_rises_and_falls() -> None:
    cycle = OneCycle(rate=1.0, rise=0.25, final=0.01)
    assert [rate(cycle, step) for step in (0, 25, 100)] == pytest.approx([0.1, 1.0, 0.01])
    assert rate(cycle, 10) < rate(cycle, 20) < rate(cycle, 25) > rate(cycle, 60) > rate(cycle, 99)


def test_warm_up_rises_to_the_schedule() -> None:
    assert [rate(Constant(rate=1.0), step, warmup=1.0) for step in (0, 4, 9, 50)] == [0.1, 0.5, 1.0, 1.0]


@given(
    st.sampled_from([Constant(), Exponential(), Cosine(), CosineRestarts(), OneCycle()]),
    st.floats(0, 1e6),
    st.one_of(st.floats(0, 1e6), st.just(math.inf)),
    st.floats(0, 100),
)
def test_a_rate_is_never_negative_and_never_above_its_own(
    schedule: AnySchedule, step: float, total: float, warmup: float
) -> None:
    assert 0.0 <= rate(schedule, step, total, warmup) <= schedule.rate * (1 + 1e-12)

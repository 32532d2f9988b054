"""Fronts and crowding, against their definitions."""

import math

from hypothesis import given
from hypothesis import strategies as st

from amla.spec.objectives import crowding, dominates, fronts

POINTS = st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf])] * 3), max_size=25)


@given(POINTS)
def test_each_front_is_what_nobody_left_dominates(points: list[tuple[float, ...]]) -> None:
    left = set(range(len(points)))
    for front in fronts(points):
        assert front == sorted(i for i in left if not any(dominates(points[j], points[i]) for j in left))
        left -= set(front)
    assert not left


def test_crowding_by_hand() -> None:
    assert crowding([(0.0, 4.0), (1.0, 2.0), (4.0, 0.0)]) == [math.inf, 4 / 4 + 4 / 4, math.inf]
    assert crowding([]) == []

"""Regularized evolution and the selection of NSGA-II, step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from histories import CELLS, FAST, given, make

from amla.searchers.evolution import Evolution
from amla.spaces.base import space_of
from amla.spec.experiment import Objective, Problem
from amla.spec.trial import Trial

#: So many draws meet every member of a small population, for all that matters here.
MANY = 64


def evolved(trials: Sequence[Trial], problem: Problem = CELLS, **settings: int) -> Evolution:
    searcher = make("evolution", problem, **settings)
    assert isinstance(searcher, Evolution)
    searcher.observe(trials)
    return searcher


def members(searcher: Evolution) -> list[int]:
    return [member.number for member in searcher.population]


def parents(searcher: Evolution, draws: int) -> Counter[object]:
    """How often each member is the parent of a suggestion."""
    suggested = [searcher.suggest([], number) for number in range(draws)]
    return Counter(spec.memo["mutated_from"] for spec in suggested if spec is not None)


def test_the_oldest_dies_however_good_it_is() -> None:
    trials = [given(number, accuracy) for number, accuracy in enumerate([0.9, 0.1, 0.2, 0.3, 0.15])]
    for count, alive in ((2, [0, 1]), (3, [0, 1, 2]), (4, [1, 2, 3]), (5, [2, 3, 4])):
        assert members(evolved(trials[:count], population=3)) == alive
    assert parents(evolved(trials[:3], population=3, sample=MANY), 5) == {0: 5}
    assert parents(evolved(trials[:4], population=3, sample=MANY), 5) == {3: 5}


def test_age_is_the_order_of_finishing_not_of_beginning() -> None:
    trials = [given(number, 0.5) for number in (2, 0, 3, 1)]
    assert members(evolved(trials, population=3)) == [0, 3, 1]


def test_the_sample_is_drawn_with_replacement() -> None:
    """Of two members, the worse is the parent where it is drawn twice: a quarter of the times, and never without
    replacement."""
    searcher = evolved([given(0, 0.1), given(1, 0.9)], population=2, sample=2)
    counts = parents(searcher, 400)
    assert 70 <= counts[0] <= 130  # 100, give or take 3.5 standard deviations
    assert counts.total() == 400


def test_a_sample_of_one_favours_nobody() -> None:
    counts = parents(evolved([given(n, 0.1 * n) for n in range(4)], population=4, sample=1), 400)
    assert all(70 <= counts[number] <= 130 for number in range(4))


def test_failed_networks_never_enter_nor_age_anybody() -> None:
    trials = [given(0, 0.3), given(1, None), given(2, 0.2), given(3, None), given(4, None)]
    assert members(evolved(trials, population=2)) == [0, 2]
    assert members(evolved(trials, population=3)) == [0, 2]


def test_it_draws_at_random_until_the_population_is_there_or_on_its_way() -> None:
    seen, active = [given(0, 0.3), given(1, None)], [given(2, 0.5)]
    searcher = evolved(seen, population=3)
    first, second = searcher.suggest(active, 3), searcher.suggest([*active, given(3, 0.1)], 4)
    assert first is not None
    assert second is not None
    assert first.memo == {}
    assert second.memo == {"mutated_from": 0}


def test_a_child_is_one_edit_away() -> None:
    searcher = evolved([given(0, 0.3)], population=1)
    near = {network.to_json() for network in space_of(CELLS).neighbors(given(0, 0.3).spec.architecture)}
    children = [searcher.suggest([], number) for number in range(20)]
    assert {child.architecture.to_json() for child in children if child} <= near


def test_what_is_too_slow_stands_behind_all_that_is_not() -> None:
    fast, slow, slower = given(0, 0.1, latency=9.0), given(1, 0.9, latency=11.0), given(2, 0.95, latency=15.0)
    assert parents(evolved([fast, slow, slower], FAST, population=3, sample=MANY), 5) == {0: 5}
    assert parents(evolved([slower, slow], FAST, population=2, sample=MANY), 5) == {1: 5}


# ------------------------------------------------------------------------------------------------------ several objectives
TWO = tuple(map(Objective.parse, ("accuracy", "parameters")))
#: Number -> (accuracy, parameters). 3 is dominated by 2; of 0, 1, 2, 4 the ends are 0 and 1, and 2 is more crowded than 4:
#: 0.22 / 0.4 + 41 / 90 = 1.006 against 0.2 / 0.4 + 50 / 90 = 1.056. 5 dominates all but 1, so the
#: last front is then 0 and 4, both its ends: the older one goes.
KNOWN = {0: (0.9, 100), 1: (0.5, 10), 2: (0.7, 50), 3: (0.6, 60), 4: (0.72, 51), 5: (0.95, 11)}


def selected(numbers: Sequence[int], population: int) -> Evolution:
    problem = CELLS.model_copy(update={"objectives": TWO})
    trials = [given(number, KNOWN[number][0], parameters=KNOWN[number][1]) for number in numbers]
    return evolved(trials, problem, population=population)


def test_nsga_keeps_the_best_front_and_in_it_the_least_crowded() -> None:
    assert members(selected([0, 1, 2, 3], 3)) == [0, 1, 2]
    assert members(selected([0, 1, 2, 3, 4], 3)) == [0, 1, 4]
    assert members(selected([0, 1, 2, 3, 4, 5], 3)) == [1, 4, 5]
    assert members(selected([3, 2, 0], 2)) == [2, 0]
    assert members(selected([5, 0, 1, 2], 2)) == [5, 1]


def test_the_better_of_two_is_the_parent_there() -> None:
    """Of one that dominates and one that is dominated, the latter wins only against itself: a quarter of the times."""
    counts = parents(selected([2, 3], 2), 400)
    assert 70 <= counts[3] <= 130
    assert counts.total() == 400


def test_what_is_too_slow_goes_first_there() -> None:
    problem = FAST.model_copy(update={"objectives": TWO})
    good = given(0, 0.9, latency=20.0, parameters=1)
    better = given(1, 0.8, latency=11.0, parameters=1)
    sound = [given(number, 0.1, latency=5.0, parameters=90 + number) for number in (2, 3)]
    assert members(evolved([good, better, *sound], problem, population=3)) == [1, 2, 3]
    assert members(evolved([good, better, *sound], problem, population=2)) == [2, 3]

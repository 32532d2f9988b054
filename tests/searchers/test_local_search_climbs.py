"""Local search on landscapes whose hills are known: 64 cells, an edge being an identity or a convolution."""

from __future__ import annotations

import pytest
from histories import CELLS, FAST, ended, make, operations_of, played

from amla.searchers.local_search import LocalSearch
from amla.spaces.base import AnyArchitecture, space_of
from amla.spec.experiment import Problem
from amla.spec.trial import Trial, TrialSpec

FEW = {"space_settings": {"width": 4, "cells": 1, "operations": ["identity", "1x1"]}}
SMALL = CELLS.model_copy(update=FEW)


def convolutions(architecture: AnyArchitecture) -> int:
    return operations_of(architecture).count("1x1")


def hill(architecture: AnyArchitecture) -> float:
    """One top, and every way up leads to it."""
    return convolutions(architecture) / 6


def two_hills(architecture: AnyArchitecture) -> float:
    """The higher top lies where the other hill is lowest."""
    return 1.0 if convolutions(architecture) == 0 else hill(architecture) * 0.9


def climber(problem: Problem = SMALL, **settings: bool) -> LocalSearch:
    searcher = make("local_search", problem, **settings)
    assert isinstance(searcher, LocalSearch)
    return searcher


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("first", [False, True])
def test_it_reaches_the_top_and_then_begins_again(first: bool, seed: int) -> None:
    searcher = climber(SMALL.model_copy(update={"seed": seed}), first_improvement=first)
    trials = played(searcher, 60, hill)
    top = next(trial.number for trial in trials if hill(trial.spec.architecture) == 1.0)
    assert top <= 6 * 6, "at most six moves, with six neighbours each"
    starts = [trial.number for trial in trials if "neighbor_of" not in trial.spec.memo]
    assert starts[0] == 0
    assert all(start > top for start in starts[1:]), "there is no other place to leave"
    assert len(starts) > 1


def test_it_leaves_a_lower_hill_for_the_higher_one() -> None:
    trials = played(climber(), 200, two_hills)
    values = [two_hills(trial.spec.architecture) for trial in trials]
    assert 0.9 in values
    assert 1.0 in values


@pytest.mark.parametrize("first", [False, True])
def test_on_a_plain_it_does_not_wander(first: bool) -> None:
    trials = played(climber(first_improvement=first), 8, lambda network: 0.5)
    assert [trial.spec.memo.get("neighbor_of") for trial in trials] == [None, *[0] * 6, None]


@pytest.mark.parametrize("first", [False, True])
def test_every_trial_is_a_start_or_a_new_neighbour_of_the_centre(first: bool) -> None:
    trials = played(climber(first_improvement=first), 60, two_hills)
    space, tried = space_of(SMALL), set()
    for trial in trials:
        key = trial.spec.architecture.to_json()
        centre = trial.spec.memo.get("neighbor_of")
        if centre is not None:
            assert isinstance(centre, int)
            assert key in {network.to_json() for network in space.neighbors(trials[centre].spec.architecture)}
            assert key not in tried
        tried.add(key)


def test_it_moves_to_the_best_neighbour_or_to_the_first_better_one() -> None:
    for first in (False, True):
        trials = played(climber(first_improvement=first), 20, hill)
        centres = [trial.spec.memo.get("neighbor_of") for trial in trials]
        moved = next(number for number, centre in enumerate(centres) if centre not in (None, 0))
        around = trials[1:moved]
        if first:
            assert all(hill(t.spec.architecture) < hill(trials[0].spec.architecture) for t in around[:-1])
        else:
            assert len(around) == 6, "all of them are tried before it moves"
        best = max(around, key=lambda trial: (hill(trial.spec.architecture), -trial.number))
        assert hill(trials[int(str(centres[moved]))].spec.architecture) == hill(best.spec.architecture)


def test_a_failed_start_is_none_and_a_failed_neighbour_no_better() -> None:
    searcher, seen = climber(), list[Trial]()

    def goes_on(accuracy: float | None) -> TrialSpec:
        spec = searcher.suggest([], len(seen))
        assert spec is not None
        seen.append(ended(len(seen), spec, accuracy))
        searcher.observe(seen[-1:])
        return spec

    goes_on(None)
    assert goes_on(0.5).memo == {}, "it starts once more"
    for _ in range(6):
        assert goes_on(None).memo == {"neighbor_of": 1}
    assert goes_on(0.1).memo == {}, "no neighbour is left, and none was better"


def test_it_never_climbs_to_what_is_too_slow() -> None:
    """More than three convolutions are, though they would be the most accurate."""
    searcher, seen = climber(FAST.model_copy(update=FEW)), list[Trial]()
    while len(seen) < 60:
        spec = searcher.suggest([], len(seen))
        assert spec is not None
        latency = 9.0 + max(0, convolutions(spec.architecture) - 3) * 2.0
        seen.append(ended(len(seen), spec, hill(spec.architecture), latency=latency))
        before = searcher.centre
        searcher.observe(seen[-1:])
        if before is not None and searcher.centre is not None and searcher.centre != before:
            assert searcher.centre.result is not None
            assert before.result is not None
            slower = (searcher.centre.result.latency_ms or 0.0) > (before.result.latency_ms or 0.0)
            assert searcher.centre.result.feasible or not slower, (
                "a start that is too slow is only left for a faster one"
            )
    final = searcher.final(seen)
    assert final is not None
    assert convolutions(final.architecture) == 3

"""``zero_cost``: how it ranks, whom it trains, which network wins."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest

from amla.engine.rehearsal import rehearse
from amla.searchers.zero_cost import ZeroCost, ZeroCostSettings, ranking
from amla.spec.experiment import Limits, Problem
from amla.spec.procedures import ScoreSettings
from amla.spec.trial import Result, Trial
from amla.testing.searchers import SearcherSuite

CELLS = SearcherSuite.problem.model_copy(update={"space": "nasbench201", "space_settings": {"width": 4, "cells": 1}})


class TestInTheEnvelope(SearcherSuite):
    name = "zero_cost"


class TestAmongCells(SearcherSuite):
    name = "zero_cost"
    settings: ClassVar[dict[str, Any]] = {"rank_by": ["synflow"], "best": 2}
    problem: ClassVar[Problem] = CELLS


class TestWithoutTraining(SearcherSuite):
    name = "zero_cost"
    settings: ClassVar[dict[str, Any]] = {"best": 1}


def searcher(problem: Problem = CELLS, **settings: Any) -> ZeroCost:
    return ZeroCost(ZeroCostSettings.parse(settings), problem)


def with_scores(trials: list[Trial], *scores: dict[str, float]) -> list[Trial]:
    return [
        trial.model_copy(update={"result": Result(scores=score)}) for trial, score in zip(trials, scores, strict=True)
    ]


def scoring(count: int) -> list[Trial]:
    asked = searcher(CELLS.model_copy(update={"trials": count}))
    return rehearse(asked, CELLS)[:count]


def test_first_it_scores_then_it_trains_the_best() -> None:
    trials = rehearse(searcher(best=2), CELLS)
    assert [trial.spec.procedure for trial in trials] == ["score"] * 6 + ["train"] * 3
    assert [trial.spec.purpose for trial in trials] == ["search"] * 6 + ["selection"] * 2 + ["final"]
    best = ranking(trials, ZeroCostSettings().rank_by)
    assert [trial.spec.architecture for trial in trials[6:8]] == [trial.spec.architecture for trial in best[:2]]
    trained = max(trials[6:8], key=lambda trial: trial.result.accuracy if trial.result else -1.0)
    assert trials[8].spec.architecture == trained.spec.architecture
    asked = [ScoreSettings.parse(trial.spec.settings) for trial in trials[:6]]
    assert len(set(asked)) == 1, "all networks are scored alike"


def test_one_score_ranks_by_its_value() -> None:
    values = (0.5, math.nan, -math.inf, 3.0)
    trials = with_scores(scoring(4), *({"synflow": value} for value in values))
    assert [trial.number for trial in ranking(trials, ["synflow"])] == [3, 0, 1, 2]


def test_several_scores_rank_by_the_sum_of_the_logarithms_of_their_ranks() -> None:
    """The worst in one score falls behind the middling in both: log(1/3) + log(3/3) < 2 log(2/3)."""
    scores = ({"synflow": 9.0, "swap": 1.0}, {"synflow": 2.0, "swap": 2.0}, {"synflow": 1.0, "swap": 9.0})
    trials = with_scores(scoring(3), *scores)
    assert [trial.number for trial in ranking(trials, ["synflow", "swap"])] == [1, 0, 2]


def test_a_network_that_was_drawn_twice_is_trained_once() -> None:
    first, second = scoring(2)
    twice = [first, second.model_copy(update={"spec": first.spec})]
    assert [trial.number for trial in ranking(twice, ZeroCostSettings().rank_by)] == [0]


def test_where_no_training_succeeds_the_scores_decide() -> None:
    trials = rehearse(searcher(best=2), CELLS)
    failed = [trial.model_copy(update={"state": "failed"}) if trial.number >= 6 else trial for trial in trials[:8]]
    final = searcher(best=2).final(failed)
    assert final is not None
    assert final.architecture == ranking(trials, ZeroCostSettings().rank_by)[0].spec.architecture
    assert searcher().final([]) is None


def test_a_small_space_is_scored_whole() -> None:
    settings = {"width": 4, "cells": 1, "operations": ["zero", "3x3"]}
    problem = CELLS.model_copy(update={"space_settings": settings, "trials": None})
    scored = [trial for trial in rehearse(searcher(problem), problem) if trial.spec.procedure == "score"]
    assert len({trial.spec.architecture.to_json() for trial in scored}) == len(scored) == 2**6


@pytest.mark.parametrize("operations", [["zero", "3x3"], ["zero", "1x1", "3x3"]], ids=["whole", "drawn"])
def test_it_keeps_the_limits(operations: list[str]) -> None:
    settings = {"width": 4, "cells": 1, "operations": operations}
    within = {"space_settings": settings, "trials": 64, "limits": Limits(max_params=9000)}
    problem = CELLS.model_copy(update=within)
    trials = rehearse(searcher(problem), problem)
    assert 1 < len(trials) < 100
    assert all(trial.result is not None and trial.result.parameters <= 9000 for trial in trials)

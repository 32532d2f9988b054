"""``enas`` as a searcher: one trial on the supernet, then the best of its candidates."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from amla.engine.rehearsal import rehearse
from amla.errors import SpecError
from amla.searchers.enas import Enas, EnasSearchSettings
from amla.spaces.base import decisions_of_supernet, space_of
from amla.spaces.limits import excess
from amla.spec.experiment import Limits, Problem
from amla.testing.searchers import SearcherSuite

SPACES: dict[str, dict[str, Any]] = {
    "envelope": {"width": 12},
    "nasbench201": {"width": 4, "cells": 1},
    "darts_cell": {"width": 4},
}


def problem(space: str, **update: Any) -> Problem:
    return SearcherSuite.problem.model_copy(update={"space": space, "space_settings": SPACES[space], **update})


class TestInTheEnvelope(SearcherSuite):
    name = "enas"
    settings: ClassVar[dict[str, Any]] = {"controller": "factorised"}


class TestAmongCells(SearcherSuite):
    name = "enas"
    problem: ClassVar[Problem] = problem("nasbench201")


class TestAmongDartsCells(SearcherSuite):
    name = "enas"
    problem: ClassVar[Problem] = problem("darts_cell")


@pytest.mark.parametrize("space", SPACES)
def test_one_trial_on_the_supernet_then_its_best_candidate(space: str) -> None:
    asked = Enas(EnasSearchSettings(), problem(space))
    trials = rehearse(asked, asked.problem)
    assert [trial.spec.procedure for trial in trials] == ["enas", "train"]
    assert trials[0].spec.architecture == asked.supernet.architecture
    assert trials[0].result is not None
    assert trials[1].spec.architecture == trials[0].result.candidates[0].architecture


@pytest.mark.parametrize("space", SPACES)
def test_every_network_that_the_controller_can_draw_is_in_the_supernet(space: str) -> None:
    told = problem(space)
    made = space_of(told)
    options = decisions_of_supernet(made)
    assert list(options) == list(made.decisions())
    assert all(options.values())
    rng = told.rng(0)
    for _ in range(10):
        network = made.decode({name: own[int(rng.integers(len(own)))] for name, own in options.items()})
        assert made.kept(network)


def test_candidates_keep_the_limits() -> None:
    told = problem("nasbench201", limits=Limits(max_params=20_000))
    trials = rehearse(Enas(EnasSearchSettings(), told), told)
    assert excess(trials[-1].spec.architecture, told) is None
    nothing = problem("nasbench201", limits=Limits(max_params=10))
    with pytest.raises(SpecError, match="no smaller one was found"):
        rehearse(Enas(EnasSearchSettings(), nothing), nothing)

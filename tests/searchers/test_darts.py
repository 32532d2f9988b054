"""``darts`` as a searcher: one trial on the supernet, then what its strengths make."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from amla.engine.rehearsal import rehearse
from amla.errors import ConfigError, SpecError
from amla.searchers.darts import Darts, DartsSearchSettings
from amla.searchers.one_shot import strengths_of
from amla.spaces.limits import excess
from amla.spec.experiment import Limits, Problem
from amla.spec.procedures import DartsSettings
from amla.testing.searchers import SearcherSuite

SPACES: dict[str, dict[str, Any]] = {
    "envelope": {"width": 12},
    "nasbench201": {"width": 4, "cells": 1},
    "darts_cell": {"width": 4},
}


def problem(space: str, **update: Any) -> Problem:
    return SearcherSuite.problem.model_copy(update={"space": space, "space_settings": SPACES[space], **update})


class TestInTheEnvelope(SearcherSuite):
    name = "darts"


class TestAmongCells(SearcherSuite):
    name = "darts"
    problem: ClassVar[Problem] = problem("nasbench201")


class TestAmongItsOwnCells(SearcherSuite):
    name = "darts"
    problem: ClassVar[Problem] = problem("darts_cell")


def searcher(told: Problem) -> Darts:
    return Darts(DartsSearchSettings(), told)


@pytest.mark.parametrize("space", SPACES)
def test_one_trial_on_the_supernet_then_the_strongest(space: str) -> None:
    asked = searcher(problem(space))
    trials = rehearse(asked, asked.problem)
    assert [trial.spec.procedure for trial in trials] == ["darts", "train"]
    assert trials[0].spec.architecture == asked.supernet.architecture
    assert DartsSettings.parse(trials[0].spec.settings).mixtures == asked.supernet.mixtures
    assert trials[0].result is not None
    strengths = strengths_of(trials[0].result.statistics, "strength", asked.supernet.mixtures)
    assert trials[1].spec.architecture == asked.space.derive(strengths)
    assert asked.space.contains(trials[1].spec.architecture)


@pytest.mark.parametrize("space", ["envelope", "nasbench201"])
def test_what_is_derived_keeps_the_limits(space: str) -> None:
    free = rehearse(searcher(problem(space)), problem(space))[1].result
    assert free is not None
    told = problem(space, limits=Limits(max_params=free.parameters - 1))
    trials = rehearse(searcher(told), told)
    assert excess(trials[1].spec.architecture, told) is None
    assert trials[0].result is not None
    assert trials[0].result.parameters > free.parameters


def test_nothing_is_begun_where_nothing_fits() -> None:
    told = problem("nasbench201", limits=Limits(max_params=10))
    with pytest.raises(SpecError, match="no smaller one was found"):
        rehearse(searcher(told), told)


def test_a_space_without_a_supernet_is_refused() -> None:
    with pytest.raises(ConfigError, match="'darts' needs all networks of the space in one, and 'envelope' has no"):
        searcher(problem("envelope", space_settings={"width": 12, "layers": [1], "blocks": [2]}))


def test_an_option_without_blocks_has_what_the_others_leave() -> None:
    mixtures: dict[str, dict[str, tuple[str, ...]]] = {"skip": {"off": (), "on": ("s",)}}
    assert strengths_of({"s": {"strength": 0.75}}, "strength", mixtures) == {"skip": {"off": 0.25, "on": 0.75}}

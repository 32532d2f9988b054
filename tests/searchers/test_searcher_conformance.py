"""Every searcher that ships passes the shipped suite, in all of its ways to run."""

from typing import Any, ClassVar

import pytest

from amla.spec.experiment import Problem
from amla.spec.hyperparameters import Choice, Integer, Real
from amla.spec.lower import lower
from amla.spec.training import Budget
from amla.testing.searchers import SearcherSuite


class TestRandom(SearcherSuite):
    name = "random"


class TestEnvelope(SearcherSuite):
    name = "envelope"


class TestNacWhileTraining(SearcherSuite):
    name = "nac"
    settings: ClassVar[dict[str, Any]] = {"iterations": 3}


class TestNacAfresh(SearcherSuite):
    name = "nac"
    settings: ClassVar[dict[str, Any]] = {"mode": "afresh", "iterations": 3}


class TestNacWithoutSkips(SearcherSuite):
    name = "nac"
    settings: ClassVar[dict[str, Any]] = {"iterations": 2, "freed_channels": "lapse", "normalise": "kind"}
    problem: ClassVar[Problem] = SearcherSuite.problem.model_copy(
        update={"space_settings": {"width": 8, "skips": False}}
    )


class TestFixed(SearcherSuite):
    name = "fixed"

    @pytest.fixture(autouse=True)
    def _architecture(self) -> None:
        from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace

        space = EnvelopeSpace(EnvelopeSettings(width=8), self.problem)
        type(self).settings = {"architecture": space.initial().to_data()}


@pytest.mark.parametrize(
    "criterion", ["mean_square", "variance", "taylor", "covariance_entropy", "random", "worst", "size", "none"]
)
@pytest.mark.parametrize("point", ["after_activation", "before_norm"])
def test_nac_runs_with_every_criterion(criterion: str, point: str) -> None:
    class Suite(SearcherSuite):
        name = "nac"
        settings: ClassVar[dict[str, Any]] = {"iterations": 2, "criterion": criterion, "point": point}

    trials = Suite().run()
    assert [trial.spec.purpose for trial in trials] == ["search", "search", "final"]
    grown = [sum(len(stage.layers) for stage in trial.spec.architecture.stages) for trial in trials]
    assert grown == sorted(set(grown)), "every construction makes the network deeper"


def test_budgets_and_one_schedule() -> None:
    class Suite(SearcherSuite):
        name = "nac"
        settings: ClassVar[dict[str, Any]] = {"iterations": 3}

    trials = Suite().run()
    assert {trial.spec.horizon for trial in trials} == {Budget(steps=3 * 10 + 20)}
    assert [trial.spec.parent for trial in trials] == [None, 0, 1, 2]
    for trial in trials:
        lower(trial.spec.architecture, (1, 8, 8), 10)


NASBENCH = SearcherSuite.problem.model_copy(update={"space": "nasbench201", "space_settings": {"width": 4, "cells": 1}})
TUNED = {
    "schedule.rate": Real(low=0.01, high=0.5, log=True),
    "batch_size": Integer(low=16, high=64),
    "optimizer": Choice(options=({"kind": "sgd"}, {"kind": "adamw", "weight_decay": 0.1})),
}


@pytest.mark.parametrize("name", ["bayes", "tpe"])
@pytest.mark.parametrize(
    ("problem", "what"),
    [(SearcherSuite.problem, "architecture"), (SearcherSuite.problem, "training"), (NASBENCH, "both")],
    ids=["architecture", "training", "both"],
)
class TestModelBased(SearcherSuite):
    """Of six trials, three are the model's."""

    @pytest.fixture(autouse=True)
    def _variant(self, name: str, problem: Problem, what: str) -> None:
        self.name = name
        self.settings = {"startup": 3, "what": what}
        self.problem = problem if what == "architecture" else problem.model_copy(update={"hyperparameters": TUNED})

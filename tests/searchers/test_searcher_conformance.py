"""Every searcher that ships passes the shipped suite, in all of its ways to run."""

from typing import Any, ClassVar

import pytest

from amla.errors import SearchError
from amla.searchers.prune import Prune, PruneSettings
from amla.spec.experiment import Objective, Problem
from amla.spec.hyperparameters import Choice, Integer, Real
from amla.spec.lower import lower
from amla.spec.training import Budget
from amla.spec.trial import Failure, Result, Trial
from amla.testing.searchers import SearcherSuite


class TestRandom(SearcherSuite):
    name = "random"


def _in(space: str, **settings: Any) -> Problem:
    """The suite's problem in another space, with trials enough for what comes after a random beginning."""
    update = {"space": space, "space_settings": settings, "trials": 16}
    return SearcherSuite.problem.model_copy(update=update)


ENVELOPE = _in("envelope", width=8, layers=[1], max_layers=[2])
CELLS = _in("nasbench201", width=4, cells=1)
DARTS_CELLS = _in("darts_cell", width=4, cells=3, nodes=2).model_copy(update={"trials": 8})


class TestEvolution(SearcherSuite):
    name = "evolution"
    problem: ClassVar[Problem] = ENVELOPE


class TestEvolutionOfCells(SearcherSuite):
    name = "evolution"
    problem: ClassVar[Problem] = CELLS


class TestEvolutionWithSeveralObjectives(SearcherSuite):
    name = "evolution"
    settings: ClassVar[dict[str, Any]] = {"population": 5}
    problem: ClassVar[Problem] = CELLS.model_copy(
        update={"objectives": (Objective.parse("accuracy"), Objective.parse("parameters"))}
    )


class TestLocalSearch(SearcherSuite):
    name = "local_search"
    problem: ClassVar[Problem] = ENVELOPE


class TestLocalSearchOfCells(SearcherSuite):
    name = "local_search"
    settings: ClassVar[dict[str, Any]] = {"first_improvement": True}
    problem: ClassVar[Problem] = CELLS


class TestLocalSearchOfFewCells(SearcherSuite):
    """A whole space is climbed, and left for new starts."""

    name = "local_search"
    problem: ClassVar[Problem] = _in("nasbench201", width=4, cells=1, operations=["identity", "1x1"])


class TestReinforce(SearcherSuite):
    name = "reinforce"
    problem: ClassVar[Problem] = ENVELOPE


class TestReinforceOfCells(SearcherSuite):
    name = "reinforce"
    problem: ClassVar[Problem] = CELLS


class TestSuccessiveHalving(SearcherSuite):
    name = "successive_halving"
    problem: ClassVar[Problem] = ENVELOPE


class TestSuccessiveHalvingOfEvolvedCells(SearcherSuite):
    name = "successive_halving"
    settings: ClassVar[dict[str, Any]] = {"searcher": "evolution", "settings": {"population": 4}, "eta": 2}
    problem: ClassVar[Problem] = CELLS


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("random", {}),
        ("evolution", {"population": 3}),
        ("local_search", {}),
        ("reinforce", {}),
        ("successive_halving", {"eta": 2}),
        ("tpe", {"startup": 3}),
        ("bayes", {"startup": 3}),
        ("zero_cost", {"best": 2}),
    ],
)
class TestOfDartsCells(SearcherSuite):
    problem: ClassVar[Problem] = DARTS_CELLS

    @pytest.fixture(autouse=True)
    def _variant(self, name: str, settings: dict[str, Any]) -> None:
        self.name, self.settings = name, settings


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
    leaves_space = True  # channels lapse
    settings: ClassVar[dict[str, Any]] = {"iterations": 2, "freed_channels": "lapse", "normalise": "kind"}
    problem: ClassVar[Problem] = SearcherSuite.problem.model_copy(
        update={"space_settings": {"width": 8, "skips": False}}
    )


class TestFixed(SearcherSuite):
    name = "fixed"
    leaves_space = True

    @pytest.fixture(autouse=True)
    def _architecture(self) -> None:
        from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace

        space = EnvelopeSpace(EnvelopeSettings(width=8), self.problem)
        type(self).settings = {"architecture": space.initial().to_data()}


class TestPrune(SearcherSuite):
    name = "prune"
    leaves_space = True

    @pytest.fixture(autouse=True)
    def _architecture(self) -> None:
        from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
        from amla.spec.architecture import GraphArchitecture
        from amla.spec.lower import lower

        network = EnvelopeSpace(EnvelopeSettings(width=8), self.problem).initial()
        graph = lower(network, self.problem.input_shape, self.problem.num_classes)
        type(self).settings = {"architecture": GraphArchitecture(graph=graph).to_data(), "branches": 3}

    def test_it_ends_where_nothing_can_be_trained(self) -> None:
        searcher = Prune(PruneSettings.parse(self.settings), self.problem)
        for number in range(3):
            spec = searcher.suggest([], number)
            assert spec is not None
            failure = Result(failure=Failure(kind="nan", reason="the loss is not a number"))
            searcher.observe(
                [Trial(number=number, seed=0, state="failed", finished_seq=number, spec=spec, result=failure)]
            )
        with pytest.raises(SearchError, match="3 times in a row, at last by: the loss is not a number"):
            searcher.suggest([], 3)


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


TUNED = {
    "schedule.rate": Real(low=0.01, high=0.5, log=True),
    "batch_size": Integer(low=16, high=64),
    "optimizer": Choice(options=({"kind": "sgd"}, {"kind": "adamw", "weight_decay": 0.1})),
}


@pytest.mark.parametrize("name", ["bayes", "tpe"])
@pytest.mark.parametrize(
    ("problem", "what"),
    [
        (SearcherSuite.problem, "architecture"),
        (SearcherSuite.problem, "training"),
        (CELLS.model_copy(update={"trials": 6}), "both"),
    ],
    ids=["architecture", "training", "both"],
)
class TestModelBased(SearcherSuite):
    """Of six trials, three are the model's."""

    @pytest.fixture(autouse=True)
    def _variant(self, name: str, problem: Problem, what: str) -> None:
        self.name = name
        self.settings = {"startup": 3, "what": what}
        self.problem = problem if what == "architecture" else problem.model_copy(update={"hyperparameters": TUNED})

"""A time budget decides width, depth, iterations and epochs; what a user said stays as it is."""

import time
from typing import Any

import pytest

from amla.engine import fitting
from amla.engine.options import spec_of
from amla.engine.prepare import default_epochs, prepare
from amla.errors import ConfigError
from amla.spec.costs import flops
from amla.spec.data import DatasetInfo
from amla.trainers.torch.trainer import TorchTrainer

INFO = DatasetInfo(
    name="pictures",
    shape=(32, 32, 3),
    classes=tuple("abcdefghij"),
    sizes={"train": 45_000, "valid": 5_000, "test": 10_000},
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
)


class Machine(TorchTrainer):
    """A trainer on a machine of so many multiply-adds a second."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.asked = 0

    def measure(self, graph, training, measured) -> dict[str, Any]:
        self.asked += 1
        seconds = 3 * training.batch_size * flops(graph) / self.speed
        return {"dtype": "float32", "threads": 1, "step_seconds": seconds, "evaluate_seconds": 0.0, "device": "made up"}


def fitted(budget: str, speed: float = 1e11, **options: Any):
    machine = Machine(speed)
    spec = spec_of({"dataset": "cifar10", "time_budget": budget, **options})
    return prepare(spec, INFO, machine, "folder", "id"), machine


def planned(experiment) -> fitting.Plan:
    searcher = fitting.make_searcher(experiment.spec, experiment.problem)
    return fitting.Plan(experiment.spec, experiment.problem, fitting.rehearse(searcher, experiment.problem))


def seconds(experiment) -> float:
    """Of training, by what the machine said of the first network and what follows from the sizes of the others."""
    steps = experiment.problem.final_budget.steps
    return float(experiment.measured["step_seconds"]) * planned(experiment).relative_cost * steps


def test_more_time_is_a_richer_search():
    # a slow machine and long budgets: the seconds that planning itself takes here do not count then
    found = [fitted(budget, speed=1e9)[0] for budget in ("17m", "200m", "2000m", "300h", "3000h")]
    richness = [planned(experiment).flops for experiment in found]
    assert richness == sorted(richness)
    assert richness[0] < richness[-1]
    settings = [experiment.problem.space_settings for experiment in found]
    assert settings[-1] == {"width": 96, "layers": [3, 3, 3]}
    assert settings[0] == {"width": 8, "layers": [1, 1, 1], "halvings": 1}
    assert found[0].spec.settings["iterations"] < 5
    assert "iterations" not in found[-1].spec.settings


@pytest.mark.parametrize("budget", ["2m", "20m", "3h"])
def test_the_budget_is_used_and_kept(budget):
    experiment, _ = fitted(budget)
    whole = {"2m": 120, "20m": 1200, "3h": 10_800}[budget]
    assert 0.5 * whole < seconds(experiment) <= whole


def test_no_more_epochs_than_are_of_use():
    experiment, _ = fitted("300h")
    steps_of_an_epoch = 45_000 // experiment.problem.training.batch_size
    assert experiment.problem.final_budget.steps <= 2 * default_epochs(45_000) * steps_of_an_epoch + 1


def test_few_are_measured():
    """A wide network takes long to measure: those that cannot be had are not."""
    _, machine = fitted("2m")
    assert machine.asked <= 4


def test_what_the_user_said_stays():
    experiment, _ = fitted("20m", width=20, iterations=4, epochs=3)
    assert experiment.problem.space_settings["width"] == 20
    assert experiment.spec.settings["iterations"] == 4
    assert experiment.problem.final_budget.epochs == 3


def test_limits_are_kept():
    experiment, _ = fitted("30h", max_params=60_000)
    assert all(trial.result.parameters <= 60_000 for trial in planned(experiment).trials)


def test_other_searchers_are_fitted_too():
    experiment, _ = fitted("20m", searcher="random", trials=5)
    assert "width" in experiment.problem.space_settings


def test_too_short():
    with pytest.raises(ConfigError, match="too short"):
        fitted("1s", speed=1e8)


def test_nothing_is_too_short_where_the_clock_ends_it():
    experiment, _ = fitted("1s", speed=1e8, exact_time=True)
    assert experiment.problem.budget.steps == 1


def test_what_was_fitted_is_told_from_what_was_said():
    experiment, _ = fitted("10s", exact_time=True)
    assert experiment.measured["fitted"] == {"iterations": experiment.spec.settings["iterations"]}
    assert fitted("10s", iterations=2)[0].measured["fitted"] == {}


def test_no_network_within_the_limits():
    with pytest.raises(Exception, match="max_params"):
        fitted("20m", max_params=10)


def test_it_is_quick():
    began = time.monotonic()
    fitted("20m")
    assert time.monotonic() - began < 20

"""Searchers that model what they have seen: points, what is searched, limits that were measured, and that they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from histories import given

from amla import registry
from amla.engine.rehearsal import rehearse
from amla.errors import ConfigError
from amla.searchers.axes import Axes
from amla.searchers.base import Searcher
from amla.searchers.bayes import Bayes, BayesSettings
from amla.searchers.searched import Searched
from amla.spaces.nasbench201 import OPERATIONS
from amla.spec.experiment import Problem
from amla.spec.hyperparameters import Choice, Integer, Real
from amla.spec.trial import Result, Trial, TrialSpec

CELLS = Problem(
    space="nasbench201",
    space_settings={"width": 4, "cells": 1},
    input_shape=(1, 8, 8),
    num_classes=10,
    train_size=1000,
    trials=40,
)
PARAMETERS = {
    "schedule.rate": Real(low=0.01, high=0.5, log=True),
    "batch_size": Integer(low=16, high=64),
    "optimizer": Choice(options=({"kind": "sgd"}, {"kind": "adamw", "weight_decay": 0.1})),
}
BOTH = CELLS.model_copy(update={"hyperparameters": PARAMETERS})
TRAINING = Problem(
    space_settings={"width": 8},
    input_shape=(1, 8, 8),
    num_classes=10,
    train_size=1000,
    trials=40,
    hyperparameters={"schedule.rate": PARAMETERS["schedule.rate"]},
)


def make(name: str, problem: Problem, **settings: Any) -> Searcher[Any]:
    cls = registry.load("searchers", name)
    searcher: Searcher[Any] = cls(cls.Settings.parse(settings), problem)
    return searcher


def searched(searcher: Searcher[Any], accuracy: Any, feasible: Any = lambda spec: True) -> list[Trial]:
    """A whole search whose results are a function of what was asked for."""
    trials: list[Trial] = []
    while not searcher.finished:
        spec = searcher.suggest([], len(trials))
        assert spec is not None
        result = Result(metrics={"valid": {"accuracy": accuracy(spec)}}, feasible=feasible(spec))
        number = len(trials)
        trials.append(Trial(number=number, seed=0, state="done", finished_seq=number, spec=spec, result=result))
        searcher.observe(trials[-1:])
    return trials


def convolutions(spec: TrialSpec) -> float:
    """The share of edges with a 3x3 convolution: the best cell has nothing else."""
    options = Searched(CELLS, None, None).space.encode(spec.architecture)
    return sum(option == "3x3" for option in options.values()) / len(options)


def nearness(spec: TrialSpec) -> float:
    """1 at a rate of 0.1, less with every power of ten away."""
    return 1.0 - abs(float(np.log10(spec.training.schedule.rate)) + 1.0)


def test_a_trial_is_a_point_and_back() -> None:
    problem = BOTH
    what = Searched(problem, None, None)
    axes = Axes(what)
    for seed in range(20):
        spec = what.drawn(np.random.default_rng(seed), 1)
        point = what.point(spec)
        assert what.spec(point) == spec
        back = axes.point(axes.row(point))
        assert back.options == point.options
        assert back.values["optimizer"] == point.values["optimizer"]
        assert back.values["batch_size"] == point.values["batch_size"]
        assert back.values["schedule.rate"] == pytest.approx(point.values["schedule.rate"])


def test_distances_of_features_are_hamming_distances() -> None:
    axes = Axes(Searched(CELLS, None, None))
    rows = axes.random(np.random.default_rng(0), 30)
    features, _ = axes.features(rows)
    squared = ((features[:, None] - features[None]) ** 2).sum(axis=-1)
    assert squared == pytest.approx((rows[:, None] != rows[None]).sum(axis=-1))


def test_neighbours_differ_on_one_axis() -> None:
    axes = Axes(Searched(BOTH, None, None))
    row = axes.random(np.random.default_rng(0), 1)[0]
    near = axes.around(row, np.random.default_rng(1))
    assert set((near != row).sum(axis=1)) == {1}
    assert len(near) == 6 * 4 + 2 * 3 + 1


def test_bayes_finds_the_best_of_15625_cells_in_40() -> None:
    trials = searched(make("bayes", CELLS), convolutions)
    assert max(map(convolutions, (trial.spec for trial in trials))) == 1.0


def test_tpe_finds_more_than_random_search() -> None:
    best = {
        name: np.mean(
            [
                max(convolutions(t.spec) for t in searched(make(name, problem), convolutions))
                for problem in (CELLS.model_copy(update={"seed": seed}) for seed in range(4))
            ]
        )
        for name in ("tpe", "random")
    }
    assert best["tpe"] > best["random"]


@pytest.mark.parametrize("name", ["bayes", "tpe"])
def test_a_rate_is_found(name: str) -> None:
    trials = searched(make(name, TRAINING, what="training"), nearness)
    late = np.mean([nearness(trial.spec) for trial in trials[20:]])
    assert late > np.mean([nearness(trial.spec) for trial in trials[:10]])
    assert max(nearness(trial.spec) for trial in trials) > 0.97
    assert len({trial.spec.architecture.to_json() for trial in trials}) == 1


@pytest.mark.parametrize("name", ["bayes", "tpe"])
def test_what_breaks_a_measured_limit_is_avoided(name: str) -> None:
    """More than three convolutions are too slow, though they would be the most accurate."""

    def feasible(spec: TrialSpec) -> bool:
        return convolutions(spec) <= 0.5

    trials = searched(make(name, CELLS), convolutions, feasible)
    kept = [trial for trial in trials if feasible(trial.spec)]
    assert len(kept) > len(trials) / 2
    assert max(convolutions(trial.spec) for trial in kept) == 0.5


@pytest.mark.parametrize("name", ["bayes", "tpe"])
def test_where_nothing_is_feasible_it_goes_on_at_random(name: str) -> None:
    problem = CELLS.model_copy(update={"trials": 14})
    assert len(searched(make(name, problem), convolutions, lambda spec: False)) == 14


def test_tpe_forgets_what_is_neither_good_nor_new() -> None:
    """With a memory for twelve trials it proposes what it would after those twelve, and not what it would after all."""
    drawn = [np.random.default_rng(number).permutation(OPERATIONS).tolist() for number in range(40)]
    trials = [given(number, (number % 20) / 20, *names, "3x3") for number, names in enumerate(drawn)]
    kept = [*range(14, 20), *range(34, 40)]  # the best and the latest

    def proposed(past: list[Trial], memory: int) -> list[TrialSpec | None]:
        searcher = make("tpe", CELLS.model_copy(update={"trials": 60}), startup=4, memory=memory)
        searcher.observe(past)
        return [searcher.suggest([], number) for number in range(40, 50)]

    assert len(kept) == 12
    assert proposed(trials, 12) == proposed([trials[number] for number in kept], 400)
    assert proposed(trials, 12) != proposed(trials, 400)


def test_bayes_tries_every_cell_of_a_small_space_before_one_again() -> None:
    settings = {"width": 4, "cells": 1, "operations": ["identity", "3x3"]}
    problem = CELLS.model_copy(update={"space_settings": settings, "trials": 70})
    trials = searched(make("bayes", problem, startup=1), convolutions)
    assert len({trial.spec.architecture.to_json() for trial in trials[:64]}) == 64


def test_the_same_wherever_it_was_rebuilt() -> None:
    """The kernel's parameters are those of a live searcher, whenever the one beside it was made."""
    trials = searched(make("bayes", CELLS), convolutions)
    for count in (12, 19, 28, 39):
        rebuilt = Bayes(BayesSettings(), CELLS)
        rebuilt.observe(trials[:count])
        assert rebuilt.suggest([], count) == trials[count].spec


@pytest.mark.parametrize(
    ("problem", "settings", "said"),
    [
        (CELLS, {"what": "training"}, "settings.what: 'training' needs hyperparameters"),
        (CELLS, {"what": "both"}, "settings.what: 'both' needs hyperparameters"),
        (BOTH, {"what": "architecture"}, "settings.what: 'architecture' leaves"),
        (BOTH, {"what": "training"}, "settings.architecture: the space 'nasbench201' has no initial network"),
    ],
)
def test_what_is_searched_must_fit_the_problem(problem: Problem, settings: dict[str, Any], said: str) -> None:
    for name in ("bayes", "tpe"):
        with pytest.raises(ConfigError, match=said):
            make(name, problem, **settings)


@pytest.mark.parametrize("name", ["bayes", "tpe"])
def test_a_rehearsal_asks_no_model(name: str) -> None:
    trials = rehearse(make(name, CELLS), CELLS)
    drawn = [make("random", CELLS).suggest([], number) for number in range(40)]
    assert [trial.spec for trial in trials[:-1]] == drawn
    assert trials[-1].spec.purpose == "final"

"""Tree-structured Parzen estimator (Bergstra et al. 2011), by Optuna's sampler: of architectures, of training, of both.

Optuna stores nothing: its study, in memory, is made of the trials that were observed, and the sampler is seeded anew by
every suggestion's number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import Field, JsonValue

from amla.searchers.model_based import ModelBased, ModelBasedSettings
from amla.searchers.searched import Point
from amla.spaces.limits import excess
from amla.spec.experiment import Problem
from amla.spec.hyperparameters import Choice, Hyperparameter, Integer
from amla.spec.trial import TrialSpec

#: How often the sampler is asked for a point that is new and keeps the limits, before one is drawn at random. What it
#: said in vain counts as running meanwhile, so that it says something else.
ASKED = 4


class TPESettings(ModelBasedSettings):
    multivariate: bool = Field(True, description="one density for all decisions together (arXiv 1807.01774)")
    candidates: int = Field(
        24, ge=1, description="points drawn from the good trials' density, of which the best is taken"
    )
    constant_liar: bool = Field(True, description="networks that are being trained count as bad ones")


#: The place on every axis of a trial, as Optuna's model has it.
Numbers = tuple[float, ...]


class Sampler(TPESampler):
    """Optuna's, told what all trials have in common instead of finding it out from each of them, which takes longer than
    all the rest."""

    def __init__(self, together: dict[str, BaseDistribution], known: dict[int, Numbers], **settings: Any) -> None:
        super().__init__(**settings)
        self.together, self.known = together, known

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self.together

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: optuna.Study
    ) -> dict[str, np.ndarray]:
        """Optuna's own, but a trial is translated once, not at every suggestion."""
        if search_space is not self.together:
            found: dict[str, np.ndarray] = super()._get_internal_repr(trials, search_space, study)
            return found
        for trial in trials:
            if trial.number not in self.known:
                params = self._get_params(trial, study)
                self.known[trial.number] = tuple(d.to_internal_repr(params[name]) for name, d in search_space.items())
        columns = (
            zip(*(self.known[trial.number] for trial in trials), strict=True) if trials else [()] * len(search_space)
        )
        return {name: np.asarray(column) for name, column in zip(search_space, columns, strict=True)}


class TPE(ModelBased[TPESettings]):
    """Draw what good trials have more often than the others: Optuna's tree-structured Parzen estimator."""

    Settings = TPESettings

    def __init__(self, settings: TPESettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        decisions = {_decision(name): CategoricalDistribution(o) for name, o in self.searched.decisions.items()}
        parameters = {_parameter(name): _distribution(p) for name, p in self.searched.parameters.items()}
        self.distributions: dict[str, BaseDistribution] = {**decisions, **parameters}
        with _quiet():
            self._study = optuna.create_study(direction="maximize")
        self._added = 0
        self._numbers: dict[int, Numbers] = {}
        self._live: list[tuple[Point, int]] = []  # those that run, as the study has them, with their numbers there

    def proposed(self, active: Sequence[Point], rng: np.random.Generator) -> TrialSpec:
        self._catch_up()
        taken = {_key(point) for point in [*self.tried, *active]}
        with self._running(active) as asked:
            self._study.sampler = self._sampler(int(rng.integers(2**32)))
            for _ in range(ASKED):
                trial = self._study.ask(self.distributions)
                asked.append(trial.number)
                spec = self.searched.spec(self._point(trial.params))
                new = _key(self.searched.point(spec)) not in taken
                if new and excess(spec.architecture, self.problem) is None:
                    return spec
        return self.searched.drawn(rng, self.settings.draws)

    def _catch_up(self) -> None:
        """Tell the study of the trials that it does not have yet, in order: those that run come behind all of them."""
        if self._added < len(self.points):
            self._forget(0)
        for point, worth in zip(self.points[self._added :], self.worths[self._added :], strict=True):
            broken = not math.isfinite(worth)
            self._study.add_trial(
                create_trial(
                    value=0.0 if broken else worth,
                    constraints={"limits": 1.0 if broken else 0.0},
                    params=self._params(point),
                    distributions=self.distributions,
                )
            )
        self._added = len(self.points)

    @contextmanager
    def _running(self, active: Sequence[Point]) -> Iterator[list[int]]:
        """The study with these points as running trials; those noted in the list are out of it afterwards."""
        same = zip(self._live, active, strict=False)
        self._forget(next((place for place, (known, point) in enumerate(same) if known[0] != point), len(active)))
        for point in active[len(self._live) :]:
            self._live.append((point, len(self._study.get_trials(deepcopy=False))))
            params = self._params(point)
            self._study.add_trial(
                create_trial(state=TrialState.RUNNING, params=params, distributions=self.distributions)
            )
        asked: list[int] = []
        try:
            yield asked
        finally:
            for number in asked:
                self._study.tell(number, state=TrialState.FAIL)

    def _forget(self, kept: int) -> None:
        """Those that run are out of the study but for the first so many."""
        for _, number in self._live[kept:]:
            self._study.tell(number, state=TrialState.FAIL)
        del self._live[kept:]

    def _sampler(self, seed: int) -> TPESampler:
        together = {name: d for name, d in self.distributions.items() if not d.single()}
        return Sampler(
            together if self.settings.multivariate else {},
            self._numbers,
            seed=seed,
            n_startup_trials=1,  # ours are drawn before it is asked
            n_ei_candidates=self.settings.candidates,
            multivariate=self.settings.multivariate,
            constant_liar=self.settings.constant_liar,
        )

    def _params(self, point: Point) -> dict[str, Any]:
        """A point as Optuna writes it."""
        options: dict[str, Any] = {_decision(name): option for name, option in point.options.items()}
        values = {
            _parameter(name): _told(self.searched.parameters[name], value) for name, value in point.values.items()
        }
        return options | values

    def _point(self, params: Mapping[str, Any]) -> Point:
        options = {name: str(params[_decision(name)]) for name in self.searched.decisions}
        values = {
            name: parameter.options[params[_parameter(name)]]
            if isinstance(parameter, Choice)
            else params[_parameter(name)]
            for name, parameter in self.searched.parameters.items()
        }
        return Point(options, values)


def _decision(name: str) -> str:
    return f"architecture/{name}"


def _parameter(name: str) -> str:
    return f"training/{name}"


def _distribution(parameter: Hyperparameter) -> BaseDistribution:
    if isinstance(parameter, Choice):  # by index, since an option may be any JSON
        return CategoricalDistribution(range(len(parameter.options)))
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _told(parameter: Hyperparameter, value: JsonValue) -> int | float:
    if isinstance(parameter, Choice):
        return parameter.options.index(value)
    number = min(parameter.high, max(parameter.low, float(str(value))))
    return int(number) if isinstance(parameter, Integer) else float(number)


def _key(point: Point) -> str:
    return json.dumps(point)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's remarks on standard error, which it makes by default; whoever uses it besides us keeps theirs."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)

"""Tree-structured Parzen estimator (Bergstra et al. 2011), by Optuna's sampler: of architectures, of training, of both.

Optuna stores nothing: the history that its sampler reads is made of the trials that were observed, and the sampler is
seeded anew by every suggestion's number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, JsonValue

from amla.searchers.model_based import ModelBased, ModelBasedSettings
from amla.searchers.searched import Point
from amla.spaces.limits import excess
from amla.spec.experiment import Problem
from amla.spec.hyperparameters import Choice, Hyperparameter, Integer
from amla.spec.trial import Trial, TrialSpec

#: How often the sampler is asked for a point that is new and keeps the limits, before one is drawn at random. What it
#: said in vain counts as running meanwhile, so that it says something else.
ASKED = 4


class TPESettings(ModelBasedSettings):
    multivariate: bool = Field(True, description="one density for all decisions together (arXiv 1807.01774)")
    candidates: int = Field(
        24, ge=1, description="points drawn from the good trials' density, of which the best is taken"
    )
    constant_liar: bool = Field(True, description="networks that are being trained count as bad ones")


class Sampler(TPESampler):
    """Optuna's, told what all trials have in common instead of finding it out from each of them, which takes longer than
    all the rest."""

    def __init__(self, together: dict[str, BaseDistribution], **settings: Any) -> None:
        super().__init__(**settings)
        self.together = together

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self.together


class History(InMemoryStorage):
    """Optuna's storage, whose past are the trials that it is given. ``Study.add_trial`` would copy each of them down to the
    last option, which takes ten times as long as the sampler itself."""

    def __init__(self, past: list[FrozenTrial]) -> None:
        super().__init__()
        self.past = past

    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002  # there is one
        deepcopy: bool = True,  # noqa: ARG002  # nobody changes them
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self.past if states is None or trial.state in states]


class TPE(ModelBased[TPESettings]):
    """Draw what good trials have more often than the others: Optuna's tree-structured Parzen estimator."""

    Settings = TPESettings

    def __init__(self, settings: TPESettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        decisions = {_decision(name): CategoricalDistribution(o) for name, o in self.searched.decisions.items()}
        parameters = {_parameter(name): _distribution(p) for name, p in self.searched.parameters.items()}
        self.distributions: dict[str, BaseDistribution] = {**decisions, **parameters}
        self._told: list[FrozenTrial] = []  # of ``points``
        self._taken: set[str] = set()  # where trials have ended, failed ones too

    def observe(self, trials: Sequence[Trial]) -> None:
        before = len(self.tried)
        super().observe(trials)
        self._taken |= {_key(point) for point in self.tried[before:]}
        for index in range(len(self._told), len(self.points)):
            self._told.append(self._frozen(index, self._params(self.points[index]), self.worths[index]))

    def proposed(self, active: Sequence[Point], rng: np.random.Generator) -> TrialSpec:
        taken = self._taken | {_key(point) for point in active}
        past = [self._told[index] for index in self.known(len(self.points), self.settings.memory)]
        for point in active:
            past.append(self._frozen(len(self._told) + len(past), self._params(point)))
        sampler = self._sampler(int(rng.integers(2**32)))
        with _quiet():
            study = optuna.create_study(storage=History(past), sampler=sampler, direction="maximize")
        for _ in range(ASKED):
            params = study.ask(self.distributions).params
            spec = self.searched.spec(self._point(params))
            if _key(self.searched.point(spec)) not in taken and excess(spec.architecture, self.problem) is None:
                return spec
            past.append(self._frozen(len(self._told) + len(past), params))
        return self.searched.drawn(rng, self.settings.draws)

    def _frozen(self, place: int, params: dict[str, Any], worth: float | None = None) -> FrozenTrial:
        """A trial as Optuna knows it, running where it has no worth. Their order is that of their places."""
        broken = worth is not None and not math.isfinite(worth)
        trial = FrozenTrial(
            number=ASKED + place,  # the study counts from 0 those that it is asked for
            state=TrialState.RUNNING if worth is None else TrialState.COMPLETE,
            value=0.0 if broken else worth,
            datetime_start=None,
            datetime_complete=None,
            params=params,
            distributions=self.distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=-1,
        )
        if worth is not None:
            trial.set_constraint("limits", float(broken))
        return trial

    def _sampler(self, seed: int) -> TPESampler:
        together = {name: d for name, d in self.distributions.items() if not d.single()}
        return Sampler(
            together if self.settings.multivariate else {},
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

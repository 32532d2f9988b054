"""What searchers share that model what they have seen: random trials at first, then those that the model proposes."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field

from amla.searchers.base import Searcher, SearcherSettings
from amla.searchers.searched import Point, Searched, What
from amla.spec.architecture import Architecture
from amla.spec.experiment import Problem
from amla.spec.objectives import fitness
from amla.spec.trial import Trial, TrialSpec


class ModelBasedSettings(SearcherSettings):
    trials: int = Field(30, ge=1, description="search trials, where the experiment sets no number of them")
    what: What | None = Field(
        None,
        description="architecture, training (its hyperparameters) or both; by default the architecture, and the"
        " hyperparameters that the experiment names",
    )
    architecture: Architecture | None = Field(
        None, description="the network whose training is searched; by default the first one of the envelope space"
    )
    startup: int = Field(10, ge=1, description="trials drawn at random before the model is asked")
    memory: int = Field(400, ge=2, description="finished trials that the model knows at most: the best and the latest")
    draws: int = Field(200, ge=1, description="networks drawn at most for one that keeps the limits")


M = TypeVar("M", bound=ModelBasedSettings)


class ModelBased(Searcher[M]):
    """Failed trials are left out of the model. One that was done but breaks a measured limit counts as the worst of all."""

    tunes: ClassVar[bool] = True

    def __init__(self, settings: M, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.searched = Searched(problem, settings.what, settings.architecture)
        self.trials = problem.trials or settings.trials
        self.tried: list[Point] = []  # of all that have ended, failed ones too
        self.points: list[Point] = []  # of those that were done, in order
        self.worths: list[float] = []  # more is better; -inf where a limit was broken
        self._places: dict[int, tuple[TrialSpec, Point]] = {}  # of those that run, by number

    def observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            point = self.searched.point(trial.spec)
            self.tried.append(point)
            if trial.state == "done":
                self.points.append(point)
                self.worths.append(fitness(trial, self.problem))

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if len(self.tried) + len(active) >= self.trials:
            return None
        rng = self.problem.rng(number)
        if len(self.known(len(self.points), self.settings.startup)) < self.settings.startup:
            return self.searched.drawn(rng, self.settings.draws)
        return self.proposed([self._place(trial) for trial in active], rng)

    def _place(self, trial: Trial) -> Point:
        """Where a trial runs: looked up again and again while it does."""
        known = self._places.get(trial.number)
        if known is None or known[0] is not trial.spec:
            known = self._places[trial.number] = trial.spec, self.searched.point(trial.spec)
        return known[1]

    @abstractmethod
    def proposed(self, active: Sequence[Point], rng: np.random.Generator) -> TrialSpec:
        """What the model would try next, within the limits, while trials run at ``active``."""

    def known(self, first: int, most: int) -> dict[int, float]:
        """What a model is to know of the ``first`` so many points: index -> worth, in order and all finite. Of more than
        ``most`` those with the best worth and the latest, half and half. Empty where no worth is finite."""
        worths = self.worths[:first]
        worst = min(filter(math.isfinite, worths), default=None)
        if worst is None:
            return {}
        latest = range(max(0, first - most // 2), first) if first > most else range(first)
        best = sorted(range(latest.start), key=lambda index: -worths[index])[: most - len(latest)]
        return {i: worths[i] if math.isfinite(worths[i]) else worst for i in [*sorted(best), *latest]}

    def understudy(self) -> Searcher[M]:
        """All at random: a model of made-up results is worth nothing."""
        return type(self)(self.settings.model_copy(update={"startup": self.trials}), self.problem)

    @property
    def finished(self) -> bool:
        return len(self.tried) >= self.trials

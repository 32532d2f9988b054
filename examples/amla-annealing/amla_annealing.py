"""Simulated annealing (Kirkpatrick et al. 1983): a walk over mutations that takes a worse network now and then, ever more
seldom as the temperature falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from amla.searchers.base import Searcher, SearcherSettings, drawn_within, space_of
from amla.spec.experiment import Problem
from amla.spec.objectives import fitness
from amla.spec.trial import Trial, TrialSpec


class AnnealingSettings(SearcherSettings):
    trials: int = Field(100, ge=1, description="networks tried, where the experiment sets no number of trials")
    hot: float = Field(
        0.1, gt=0.0, description="temperature at first: a loss of so much accuracy passes in 1 of e times"
    )
    cold: float = Field(0.001, gt=0.0, description="temperature at last; in between it falls geometrically")
    draws: int = Field(200, ge=1, description="networks drawn at most for one that keeps the limits")


class Annealing(Searcher[AnnealingSettings]):
    """Where the walk stands is a fold over the finished trials; one that failed or broke a limit is never stood on.

    With several trials at once, each is compared with where the walk stands when it finishes, not when it began.
    """

    Settings = AnnealingSettings
    any_objective: ClassVar[bool] = False  # a temperature is a difference in accuracy

    def __init__(self, settings: AnnealingSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = space_of(problem)
        self.trials = problem.trials or settings.trials
        self.seen = 0
        self.current: Trial | None = None

    def observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            if self._accepts(trial):
                self.current = trial
            self.seen += 1

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if self.seen + len(active) >= self.trials:
            return None
        rng = self.problem.rng(number)
        rng.random()  # the lot, which _accepts draws when the trial has finished
        here = self.current
        network = drawn_within(
            self.problem,
            lambda: self.space.sample(rng) if here is None else self.space.mutate(here.spec.architecture, rng),
            self.settings.draws,
            self.space,
        )
        return TrialSpec(architecture=network, training=self.problem.training, budget=self.problem.budget)

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials

    def _accepts(self, trial: Trial) -> bool:
        """Metropolis' rule: always what is no worse, else with probability exp(-loss / temperature)."""
        value = fitness(trial, self.problem)
        if self.current is None or value == -math.inf:
            return value > -math.inf
        gain = value - fitness(self.current, self.problem)
        lot = self.problem.rng(trial.number).random()
        return gain >= 0.0 or bool(lot < math.exp(gain / self._temperature()))

    def _temperature(self) -> float:
        return self.settings.hot * (self.settings.cold / self.settings.hot) ** (self.seen / self.trials)

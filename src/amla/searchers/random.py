"""Random search: networks drawn from the space, each trained for the same budget; the best on validation wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from amla.searchers.base import Searcher, SearcherSettings, drawn_within, space_of
from amla.spec.experiment import Problem
from amla.spec.hyperparameters import drawn, tuned
from amla.spec.trial import Trial, TrialSpec


class RandomSettings(SearcherSettings):
    trials: int = Field(20, ge=1, description="networks drawn, where the experiment sets no number of trials")
    draws: int = Field(200, ge=1, description="networks drawn at most for one that keeps the limits")


class RandomSearch(Searcher[RandomSettings]):
    """The n-th suggestion depends on the seed and n alone: it is uniform over what keeps the limits."""

    Settings = RandomSettings
    tunes: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    def __init__(self, settings: RandomSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = space_of(problem)
        self.trials = problem.trials or settings.trials
        self.seen = 0

    def observe(self, trials: Sequence[Trial]) -> None:
        self.seen += len(trials)

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if self.seen + len(active) >= self.trials:
            return None
        rng = self.problem.rng(number)
        network = drawn_within(self.problem, lambda: self.space.sample(rng), self.settings.draws, self.space)
        training = tuned(self.problem.training, drawn(self.problem.hyperparameters, rng))
        return TrialSpec(architecture=network, training=training, budget=self.problem.budget)

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials

"""Random search: networks drawn from the space, each trained for the same budget; the best on validation wins."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from amla import registry
from amla.searchers.base import Searcher, SearcherSettings
from amla.spaces.base import SearchSpace
from amla.spec.experiment import Problem
from amla.spec.trial import Trial, TrialSpec


class RandomSettings(SearcherSettings):
    trials: int = Field(20, ge=1, description="networks drawn, where the experiment sets no number of trials")


class RandomSearch(Searcher[RandomSettings]):
    """The n-th suggestion depends on the seed and n alone."""

    Settings = RandomSettings

    def __init__(self, settings: RandomSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        space = registry.load("spaces", problem.space)
        self.space: SearchSpace = space(space.Settings.parse(problem.space_settings), problem)
        self.trials = problem.trials or settings.trials
        self.seen = 0

    def observe(self, trials: Sequence[Trial]) -> None:
        self.seen += len(trials)

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if self.seen + len(active) >= self.trials:
            return None
        return TrialSpec(
            architecture=self.space.sample(self.problem.rng(number)),
            training=self.problem.training,
            budget=self.problem.budget,
        )

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials

"""Random search: networks drawn from the space, each trained for the same budget; the best on validation wins."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from amla.errors import SearchError
from amla.searchers.base import Searcher, SearcherSettings, space_of
from amla.spaces.base import AnyArchitecture
from amla.spaces.limits import excess
from amla.spec.experiment import Problem
from amla.spec.trial import Trial, TrialSpec


class RandomSettings(SearcherSettings):
    trials: int = Field(20, ge=1, description="networks drawn, where the experiment sets no number of trials")
    draws: int = Field(200, ge=1, description="networks drawn at most for one that keeps the limits")


class RandomSearch(Searcher[RandomSettings]):
    """The n-th suggestion depends on the seed and n alone."""

    Settings = RandomSettings

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
        return TrialSpec(architecture=self._drawn(number), training=self.problem.training, budget=self.problem.budget)

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials

    def _drawn(self, number: int) -> AnyArchitecture:
        """Uniform over those networks of the space that keep the limits: the others are drawn again."""
        rng = self.problem.rng(number)
        broken: str | None = None
        for _ in range(self.settings.draws):
            network = self.space.sample(rng)
            broken = excess(network, self.problem)
            if broken is None:
                return network
        raise SearchError(f"random: {self.settings.draws} networks in a row are too large; {broken}")

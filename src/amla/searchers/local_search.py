"""Local search: hill climbing with restarts (White et al. 2020, arXiv 2005.02960, algorithm 1).

From a random network, its neighbours are tried in random order. As published, all of them are, and the best one is the next
centre if it is better; with ``first_improvement`` the climb goes on from the first better one. Where none is better, a new
climb begins at random. No network is tried as a neighbour twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, JsonValue

from amla.searchers.base import Searcher, SearcherSettings, drawn_within, space_of
from amla.spaces.base import AnyArchitecture
from amla.spaces.limits import excess
from amla.spec.experiment import Problem
from amla.spec.objectives import fitness, violation
from amla.spec.trial import Trial, TrialSpec


class LocalSearchSettings(SearcherSettings):
    trials: int = Field(100, ge=1, description="networks tried, where the experiment sets no number of trials")
    first_improvement: bool = Field(False, description="move to the first better neighbour, not to the best of all")
    draws: int = Field(200, ge=1, description="networks drawn at most for a start that keeps the limits")


class LocalSearch(Searcher[LocalSearchSettings]):
    """The centre of the climb is a fold over the finished trials; a network that failed counts as tried, and no better.

    With several trials at once, neighbours of one centre are tried together; the last of them are waited for.
    """

    Settings = LocalSearchSettings

    def __init__(self, settings: LocalSearchSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = space_of(problem)
        self.trials = problem.trials or settings.trials
        self.seen = 0
        self.tried: dict[str, Trial] = {}  # network -> its best trial
        self.centre: Trial | None = None
        self.around: dict[str, AnyArchitecture] = {}  # what may be tried next to the centre

    def observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self.seen += 1
            key = trial.spec.architecture.to_json()
            if key not in self.tried or self._value(trial) > self._value(self.tried[key]):
                self.tried[key] = trial
            self._climb(trial)

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if self.seen + len(active) >= self.trials:
            return None
        rng = self.problem.rng(number)
        if self.centre is None:
            start = drawn_within(self.problem, lambda: self.space.sample(rng), self.settings.draws, self.space)
            return self._trial(start, {})
        running = {trial.spec.architecture.to_json() for trial in active}
        untried = [network for key, network in self.around.items() if key not in self.tried and key not in running]
        if not untried:
            return None
        return self._trial(untried[int(rng.integers(len(untried)))], {"neighbor_of": self.centre.number})

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _climb(self, trial: Trial) -> None:
        """Where the climb stands after one more trial."""
        if trial.state == "done" and (
            self.centre is None or (self.settings.first_improvement and self._value(trial) > self._value(self.centre))
        ):
            self._move(trial)
        while self.centre is not None and all(key in self.tried for key in self.around):
            best = max((self.tried[key] for key in self.around), key=self._value, default=self.centre)
            if self._value(best) > self._value(self.centre):
                self._move(best)
            else:
                self.centre, self.around = None, {}

    def _move(self, trial: Trial) -> None:
        neighbors = self.space.neighbors(trial.spec.architecture)
        self.centre = trial
        self.around = {network.to_json(): network for network in neighbors if excess(network, self.problem) is None}

    def _value(self, trial: Trial) -> tuple[float, float]:
        """More is better: first what keeps the limits, or breaks them least, then the objective."""
        if trial.state != "done" or trial.result is None:
            return (-math.inf, -math.inf)
        return (-violation(trial.result, self.problem.limits), fitness(trial, self.problem))

    def _trial(self, network: AnyArchitecture, memo: dict[str, JsonValue]) -> TrialSpec:
        training, budget = self.problem.training, self.problem.budget
        return TrialSpec(architecture=network, training=training, budget=budget, memo=memo)

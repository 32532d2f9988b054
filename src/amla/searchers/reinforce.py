"""REINFORCE (Williams 1992; as a baseline of NATS-Bench, arXiv 2009.00437): a policy that draws every decision of the space
by itself, pushed towards the options of networks that did better than the moving average.

The gradient of the log-probability of the options taken, times (reward - baseline), is climbed by Adam. With several trials
at once a network was drawn by a policy a few results older than the one that it pushes; nothing corrects for that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from amla.searchers.base import Searcher, SearcherSettings, drawn_within, space_of
from amla.spaces.base import AnyArchitecture
from amla.spec.experiment import Problem
from amla.spec.objectives import fitness
from amla.spec.trial import Trial, TrialSpec

#: Adam's averages of the gradient and of its square, and what keeps it from dividing by zero.
BETAS, EPSILON = (0.9, 0.999), 1e-8
TAKEN = "taken"

Logits = npt.NDArray[np.float64]


class ReinforceSettings(SearcherSettings):
    trials: int = Field(100, ge=1, description="networks tried, where the experiment sets no number of trials")
    learning_rate: float = Field(0.01, gt=0.0)
    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="of the moving average that is the baseline")
    draws: int = Field(200, ge=1, description="networks drawn at most for one that keeps the limits")


class Reinforce(Searcher[ReinforceSettings]):
    """The policy is a fold over the finished trials. One that failed teaches nothing; one that broke a limit when it was
    measured is rewarded as the worst so far."""

    Settings = ReinforceSettings

    def __init__(self, settings: ReinforceSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = space_of(problem)
        self.trials = problem.trials or settings.trials
        self.decisions = self.space.decisions()
        counts = [len(options) for options in self.decisions.values()]
        # decisions x options; what a decision has not is never drawn
        self.absent = np.arange(max(counts, default=1)) >= np.array(counts, dtype=int)[:, None]
        self.logits: Logits = np.where(self.absent, -np.inf, 0.0)
        self.first, self.second = np.zeros_like(self.logits), np.zeros_like(self.logits)
        self.updates = 0
        self.baseline: float | None = None
        self.worst = math.inf
        self.seen = 0

    def observe(self, trials: Sequence[Trial]) -> None:
        self.seen += len(trials)
        for trial in trials:
            reward = fitness(trial, self.problem)
            self.worst = min(self.worst, reward) if math.isfinite(reward) else self.worst
            reward = max(reward, self.worst)
            if trial.state == "done" and math.isfinite(reward):
                self._learn(np.array(trial.spec.memo[TAKEN], dtype=int), reward)

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if self.seen + len(active) >= self.trials:
            return None
        rng = self.problem.rng(number)
        drawn: list[npt.NDArray[np.int64]] = []

        def draw() -> AnyArchitecture:
            # the largest of logits with Gumbel noise is a draw from their softmax
            drawn.append((self.logits + rng.gumbel(size=self.logits.shape)).argmax(1))
            return self.space.decode(self._options(drawn[-1]))

        network = drawn_within(self.problem, draw, self.settings.draws, self.space)
        taken = drawn[-1].tolist()
        if self.space.decode(self._options(drawn[-1])) != network:  # it was repaired
            taken = self._indices(self.space.encode(network))
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=self.problem.budget,
            memo={TAKEN: taken},
        )

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _learn(self, taken: npt.NDArray[np.int64], reward: float) -> None:
        """One step of Adam, and the baseline's. The first reward is its own baseline and so changes nothing."""
        kept = self.settings.momentum
        self.baseline = reward if self.baseline is None else kept * self.baseline + (1.0 - kept) * reward
        odds = np.exp(self.logits - self.logits.max(1, keepdims=True))
        slope = -odds / odds.sum(1, keepdims=True)
        slope[np.arange(len(taken)), taken] += 1.0
        slope *= reward - self.baseline
        self.updates += 1
        self.first = BETAS[0] * self.first + (1.0 - BETAS[0]) * slope
        self.second = BETAS[1] * self.second + (1.0 - BETAS[1]) * slope**2
        mean = self.first / (1.0 - BETAS[0] ** self.updates)
        square = self.second / (1.0 - BETAS[1] ** self.updates)
        self.logits = self.logits + self.settings.learning_rate * mean / (np.sqrt(square) + EPSILON)

    def _options(self, taken: npt.NDArray[np.int64]) -> dict[str, str]:
        return {name: options[i] for (name, options), i in zip(self.decisions.items(), taken, strict=True)}

    def _indices(self, taken: Mapping[str, str]) -> list[Any]:
        return [options.index(taken[name]) for name, options in self.decisions.items()]

"""Training-free search: many networks are scored at their initialisation, a few are trained, the best of those wins.

The networks are ranked by one score, or by the sum of the logarithms of their ranks in several, as AZ-NAS does
(arXiv 2403.19232 equation 8). A high score is no promise of a high accuracy: hence the training of more than one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from pydantic import Field
from scipy.stats import rankdata

from amla.searchers.base import Searcher, SearcherSettings, drawn_within, space_of
from amla.spaces.base import AnyArchitecture
from amla.spaces.limits import excess
from amla.spec.experiment import Problem
from amla.spec.objectives import usable
from amla.spec.procedures import Score, ScoreSettings
from amla.spec.training import Budget
from amla.spec.trial import Trial, TrialSpec


class ZeroCostSettings(SearcherSettings):
    candidates: int = Field(
        100, ge=1, description="networks scored, where the experiment sets no number of trials; all of a smaller space"
    )
    rank_by: tuple[Score, ...] = Field(
        ("expressivity", "progressivity", "trainability", "flops"),
        min_length=1,
        description="scores; of several, the logarithms of the ranks are added",
    )
    best: int = Field(
        3, ge=1, description="networks trained for the search's budget; with 1, the best is trained at once"
    )
    images: int = Field(64, ge=2, le=4096, description="training images that a score looks at")
    draws: int = Field(200, ge=1, description="networks drawn at most for one that keeps the limits")


class ZeroCost(Searcher[ZeroCostSettings]):
    """First trials of the procedure ``score``, as many as there are candidates; then the best are trained."""

    Settings = ZeroCostSettings
    procedures = frozenset({"score", "train"})

    def __init__(self, settings: ZeroCostSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.space = space_of(problem)
        self.candidates = problem.trials or settings.candidates
        self.whole = self._whole()
        self.seen: list[Trial] = []

    def observe(self, trials: Sequence[Trial]) -> None:
        self.seen += trials

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        issued = sum(_is_score(trial) for trial in [*self.seen, *active])
        if issued < self._count():
            return self._scoring(issued, number)
        if any(_is_score(trial) for trial in active):
            return None
        chosen = self._chosen(self.seen)
        issued = sum(not _is_score(trial) for trial in [*self.seen, *active])
        if issued >= len(chosen):
            return None
        return TrialSpec(
            architecture=chosen[issued].spec.architecture,
            training=self.problem.training,
            budget=self.problem.budget,
            purpose="selection",
            memo={"scored_by": chosen[issued].number},
        )

    @property
    def finished(self) -> bool:
        scored = sum(_is_score(trial) for trial in self.seen)
        return scored >= self._count() and len(self.seen) - scored >= len(self._chosen(self.seen))

    def final(self, trials: Sequence[Trial]) -> TrialSpec | None:
        """The best of those that were trained; where none was, the one with the highest scores that breaks no limit, as far
        as it was measured."""
        trained = super().final([trial for trial in trials if not _is_score(trial)])
        beyond = {t.spec.architecture.to_json() for t in trials if t.result and not t.result.feasible}
        ranked = [t for t in ranking(trials, self.settings.rank_by) if t.spec.architecture.to_json() not in beyond]
        if trained is not None or not ranked:
            return trained
        return TrialSpec(
            architecture=ranked[0].spec.architecture,
            training=self.problem.training,
            budget=self.problem.final_budget,
            purpose="final",
            memo={"found_by": ranked[0].number},
        )

    def _scoring(self, issued: int, number: int) -> TrialSpec:
        rng = self.problem.rng(number)
        network = self.whole[issued] if self.whole else None
        network = network or drawn_within(self.problem, lambda: self.space.sample(rng), self.settings.draws, self.space)
        wanted = ScoreSettings(scores=self.settings.rank_by, images=self.settings.images, seed=self.problem.seed)
        return TrialSpec(
            architecture=network,
            training=self.problem.training,
            budget=Budget(steps=1),
            procedure="score",
            settings=wanted.to_data(),
        )

    def _chosen(self, trials: Sequence[Trial]) -> list[Trial]:
        """The best, if there is a choice to be made among them."""
        return ranking(trials, self.settings.rank_by)[: self.settings.best] if self.settings.best > 1 else []

    def _count(self) -> int:
        return len(self.whole) or self.candidates

    def _whole(self) -> list[AnyArchitecture]:
        """Every network of the space that keeps the limits, where they are few enough; else nothing."""
        if self.space.size() > self.candidates:
            return []
        decisions = self.space.decisions()
        every = (self.space.decode(dict(zip(decisions, taken, strict=True))) for taken in product(*decisions.values()))
        distinct = {network.to_json(): network for network in every}
        return [network for network in distinct.values() if excess(network, self.problem) is None]


def ranking(trials: Sequence[Trial], names: Sequence[Score]) -> list[Trial]:
    """Trials that have these scores and keep the limits, each network once, the best first; ties go to the lower number."""
    scored: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if _is_score(trial) and usable(trial) and trial.result and set(names) <= set(trial.result.scores):
            scored.setdefault(trial.spec.architecture.to_json(), trial)
    found = list(scored.values())
    if not found:
        return []
    totals = [0.0] * len(found)
    for name in names:
        values = [_number(trial.result.scores[name]) for trial in found if trial.result]
        totals = [total + math.log(rank / len(found)) for total, rank in zip(totals, rankdata(values), strict=True)]
    order = sorted(range(len(found)), key=lambda index: (-totals[index], found[index].number))
    return [found[index] for index in order]


def _is_score(trial: Trial) -> bool:
    return trial.spec.procedure == "score"


def _number(value: float) -> float:
    """A score that is no number ranks last."""
    return -math.inf if math.isnan(value) else value

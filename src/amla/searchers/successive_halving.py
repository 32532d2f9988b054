"""Asynchronous successive halving (ASHA; Li et al. 2018, arXiv 1810.05934, algorithm 2): a budget policy around any searcher.

The other searcher says which network; this one for how long. Every network begins on the lowest rung, with a short budget.
Whenever a place is free, the best network that belongs to the upper 1/``eta`` of its rung and has not been promoted yet goes
on to the next rung; where there is none, a new network begins. A promoted network goes on from its own train state, in one
learning-rate schedule as long as the whole budget, so that no step is trained twice.

The highest rung ends at the experiment's ``budget``, each rung below it at 1/``eta`` of that. The number of trials counts
promotions too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, JsonValue

from amla import registry
from amla.errors import ConfigError, SpecError
from amla.searchers.base import Searcher, SearcherSettings
from amla.spec.experiment import Problem
from amla.spec.objectives import fitness
from amla.spec.training import Budget
from amla.spec.trial import Trial, TrialSpec


class SuccessiveHalvingSettings(SearcherSettings):
    searcher: str = Field("random", description="which says what network begins")
    settings: dict[str, JsonValue] = Field({}, description="of that searcher")
    eta: int = Field(3, ge=2, description="one network in so many is promoted; budgets grow by this factor")
    rungs: int = Field(3, ge=1, le=20)
    trials: int = Field(
        30, ge=1, description="trainings, promotions too, where the experiment sets no number of trials"
    )


class SuccessiveHalving(Searcher[SuccessiveHalvingSettings]):
    """Rungs are a fold over the finished trials. The other searcher is shown each network once, as one trial with what it
    reached on its highest rung; so it is made anew after a promotion has ended."""

    Settings = SuccessiveHalvingSettings
    tunes: ClassVar[bool] = True

    def __init__(self, settings: SuccessiveHalvingSettings, problem: Problem) -> None:
        super().__init__(settings, problem)
        self.trials = problem.trials or settings.trials
        self.inner_problem = problem.model_copy(update={"trials": self.trials})
        self.inner = self._fresh()
        self.needs, self.procedures = self.inner.needs, self.inner.procedures
        self.reads = self.inner.reads
        self.ends = _ends(settings, problem)
        self.rungs: list[list[Trial]] = [[] for _ in self.ends]
        self.promoted: set[int] = set()  # numbers of trials that others go on from
        self.shown: dict[
            int, Trial
        ] = {}  # networks by the number of their first trial, as the other searcher sees them
        self.stale = False
        self.seen = 0

    def observe(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self.seen += 1
            rung, first = _rung(trial), _first(trial)
            if trial.spec.parent is not None:
                self.promoted.add(trial.spec.parent)
            if trial.state == "done":
                self.rungs[rung].append(trial)
            if rung == 0:
                self.shown[first] = trial
                if not self.stale:
                    self.inner.observe([trial])
            elif trial.state == "done":
                self.shown[first] = self.shown[first].model_copy(update={"result": trial.result})
                self.stale = True
        if self.stale:
            self.inner, self.stale = self._fresh(), False
            self.inner.observe(list(self.shown.values()))

    def suggest(self, active: Sequence[Trial], number: int) -> TrialSpec | None:
        if self.seen + len(active) >= self.trials:
            return None
        promoted = self.promoted | {trial.spec.parent for trial in active if trial.spec.parent is not None}
        best = self._promotable(promoted)
        if best is not None:
            return self._trial(best.spec, _rung(best) + 1, parent=best)
        if self.inner.finished:
            return None
        spec = self.inner.suggest([trial for trial in active if _rung(trial) == 0], number)
        return None if spec is None else self._trial(spec, 0)

    @property
    def finished(self) -> bool:
        return self.seen >= self.trials or (self.inner.finished and self._promotable(self.promoted) is None)

    # ------------------------------------------------------------------------------------------------------------- helpers
    def _promotable(self, promoted: set[int]) -> Trial | None:
        """The best of those that may go on, from the highest rung that has one."""
        for rung in reversed(self.rungs[:-1]):
            ranked = sorted(rung, key=lambda trial: (-fitness(trial, self.problem), trial.number))
            for trial in ranked[: len(rung) // self.settings.eta]:
                if trial.number not in promoted and math.isfinite(fitness(trial, self.problem)):
                    return trial
        return None

    def _trial(self, spec: TrialSpec, rung: int, parent: Trial | None = None) -> TrialSpec:
        """A network's training on a rung: from where the rung below ended."""
        begun = self.ends[rung - 1] if rung else 0
        memo: dict[str, JsonValue] = {**spec.memo, "rung": rung}
        if parent is not None:
            memo["first"] = _first(parent)
        return spec.model_copy(
            update={
                "budget": Budget(steps=self.ends[rung] - begun),
                "horizon": Budget(steps=self.ends[-1]),
                "parent": None if parent is None else parent.number,
                "inherit": "none" if parent is None else "state",
                "memo": memo,
            }
        )

    def _fresh(self) -> Searcher[Any]:
        """The other searcher, which has seen nothing. Errors: ``ConfigError`` where it cannot be wrapped."""
        name = self.settings.searcher
        cls = registry.load("searchers", name)
        if self.problem.hyperparameters and not cls.tunes:
            raise ConfigError(f"settings.searcher: {name!r} does not search hyperparameters; 'random' does")
        try:
            settings = cls.Settings.parse(self.settings.settings)
        except SpecError as error:
            raise ConfigError(f"settings.settings, of the searcher {name!r}: {error}") from None
        inner: Searcher[Any] = cls(settings, self.inner_problem)
        if inner.closes or inner.finished or inner.procedures != frozenset({"train"}):
            raise ConfigError(
                f"settings.searcher: {name!r} does not propose one network after another, as 'random' does"
            )
        return inner


def _ends(settings: SuccessiveHalvingSettings, problem: Problem) -> list[int]:
    """The step at which each rung ends. Errors: ``ConfigError`` where the budget is in seconds or too short for the rungs."""
    steps = problem.budget.in_steps(problem.train_size, problem.training.batch_size)
    if steps is None:
        raise ConfigError("budget: successive_halving needs steps or epochs, not seconds, for its one schedule")
    ends = [round(steps / settings.eta**below) for below in reversed(range(settings.rungs))]
    if len(set(ends)) < len(ends) or ends[0] < 1:
        raise ConfigError(f"budget: {steps} steps are too few for {settings.rungs} rungs of eta {settings.eta}")
    return ends


def _rung(trial: Trial) -> int:
    rung = trial.spec.memo["rung"]
    assert isinstance(rung, int)  # as _trial wrote it
    return rung


def _first(trial: Trial) -> int:
    """The number of the trial with which this network began."""
    first = trial.spec.memo.get("first", trial.number)
    assert isinstance(first, int)
    return first

"""``Planner``: which trial comes next? A pure function of the stored trials, so that it can be asked again after a crash.

With ``deterministic``, suggestion k is made from the trials numbered up to k - jobs, the others shown as running whatever
has become of them. Where the searcher has nothing to suggest from these, it is shown all trials before k, once they have
ended. Either way the answer does not depend on the order in which trials end.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from amla.engine.rehearsal import make_searcher
from amla.engine.summary import final_trial, search_seconds, trained_seconds
from amla.errors import SearchError
from amla.searchers.base import Searcher
from amla.spec.costs import costs
from amla.spec.experiment import Experiment
from amla.spec.lower import lower
from amla.spec.training import Budget
from amla.spec.trial import Result, Trial, TrialSpec

#: How often the final training, and the test, are tried before the experiment is given up.
TRIES = 2
#: In the memo of a final trial that the scheduler has issued: the searcher is not shown it.
CLOSING = "closing"
#: With ``exact_time``: the share of the budget that the search leaves to the final training; and the least that this gets
#: of any time budget, however long the search has taken.
FINAL_SHARE, FINAL_LEAST = 0.3, 0.05
#: Of a time budget that was fitted: what is left over at the end, as a reading may take longer than the one before.
SLACK = 0.01


@dataclass(frozen=True)
class Ended:
    """There is nothing more to do."""

    state: Literal["done", "failed"]
    reason: str | None = None


class _Search(enum.Enum):
    OVER = enum.auto()


class Planner:
    """Plans one experiment. It keeps a live searcher, and makes a new one where it has been shown more than it may know."""

    def __init__(self, experiment: Experiment) -> None:
        self.id, self.spec, self.problem = experiment.id, experiment.spec, experiment.problem
        self.fitted = "fitted" in experiment.measured  # to the time budget, by a measurement that may be wrong
        self.valid_seconds = float(str(experiment.measured.get("valid_seconds", 0.0)))
        self.searcher = self._fresh()
        self._shown: list[int] = []

    def next(self, trials: Sequence[Trial]) -> TrialSpec | Ended | None:
        """What follows on all ``trials`` so far, in the order of their numbers; None: wait until one of them ends.

        Errors: ``SearchError`` where the searcher suggests nothing, waits for nothing, and is not finished.
        """
        if not self._search_is_over(trials):
            suggested = self._suggestion(trials)
            if suggested is not _Search.OVER:
                return suggested
        if any(not trial.finished for trial in trials):
            return None
        return self._closing(trials)

    # ---------------------------------------------------------------------------------------------------------- the search
    def _search_is_over(self, trials: Sequence[Trial]) -> bool:
        """Whether the store itself says so."""
        return any(
            trial.spec.purpose == "test"
            or (trial.spec.purpose == "final" and (trial.state == "done" or CLOSING in trial.spec.memo))
            for trial in trials
        )

    def _suggestion(self, trials: Sequence[Trial]) -> TrialSpec | Literal[_Search.OVER] | None:
        """The searcher's next trial; None: wait."""
        most = self.problem.trials
        searched = most is not None and len(trials) >= most <= sum(trial.spec.purpose == "search" for trial in trials)
        for shown, active in self._views(trials):
            searcher = self._knowing(shown)
            if searcher.finished or self._spent(shown):
                return _Search.OVER
            spec = searcher.suggest(active, len(trials))
            # with no search trial left, it may still choose among what it found, or have its own last one
            if spec is not None and not (searched and spec.purpose == "search"):
                return self._checked(spec, trials)
        if searched:
            return _Search.OVER
        if all(trial.finished for trial in trials):
            raise SearchError(f"{self.id}: the searcher suggests nothing, waits for nothing, and is not finished")
        return None

    def _views(self, trials: Sequence[Trial]) -> Iterator[tuple[list[Trial], list[Trial]]]:
        """(trials that the searcher may know, trials that run as far as it knows), to be tried one after the other."""
        if not self.spec.deterministic:
            yield self._in_order(trials), [trial for trial in trials if not trial.finished]
            return
        number = len(trials)
        for count in sorted({max(0, number - self.spec.jobs + 1), number}):
            if not all(trial.finished for trial in trials[:count]):
                return
            yield list(trials[:count]), [_as_running(trial) for trial in trials[count:]]

    def _spent(self, shown: Sequence[Trial]) -> bool:
        budget = self.spec.time_budget
        if budget is None:
            return False
        left = 0.0 if not self._by_the_clock else FINAL_SHARE if self.spec.exact_time else FINAL_LEAST
        return search_seconds(shown) >= budget * (1.0 - left)

    def _checked(self, spec: TrialSpec, trials: Sequence[Trial]) -> TrialSpec:
        parent = spec.parent
        if parent is not None and not (parent < len(trials) and trials[parent].state == "done"):
            raise SearchError(
                f"{self.id}: the searcher lets trial {len(trials)} inherit from {parent}, which has not been done"
            )
        return self._timed(spec, trials)

    # ------------------------------------------------------------------------------------------------------- a time budget
    @property
    def _by_the_clock(self) -> bool:
        """Whether the final training gets what is left of the time budget: exactly that, or no more."""
        timed = self.spec.time_budget is not None and (self.spec.exact_time or self.fitted)
        return timed and self.spec.final_budget is None

    def _timed(self, spec: TrialSpec, trials: Sequence[Trial]) -> TrialSpec:
        """The final training within the seconds that are really left once its network has been read on validation; with
        ``exact_time``, for all of them, whatever its steps. They are stored with the trial, so that a resume repeats it. Its
        schedule ends with it."""
        whole = self.spec.time_budget
        if whole is None or not self._by_the_clock or spec.purpose != "final":
            return spec
        left = whole - trained_seconds(trials) - self._evaluate_seconds(spec, trials)
        if self.spec.exact_time:
            seconds = round(max(left, FINAL_LEAST * whole), 3)
            return spec.model_copy(update={"budget": Budget(seconds=seconds), "horizon": None})
        return spec.model_copy(update={"within": round(max(left - SLACK * whole, FINAL_LEAST * whole), 3)})

    def _evaluate_seconds(self, spec: TrialSpec, trials: Sequence[Trial]) -> float:
        """How long one reading of the validation split takes this network: in proportion to its multiply-adds, for a
        supernet takes several times as long as what is derived from it; as measured before, where nothing was read yet."""
        done = [t.result for t in trials if t.state == "done" and t.result]
        work = sum(_readings(result) * result.flops for result in done)
        if not work:
            return self.valid_seconds
        flops = costs(lower(spec.architecture, self.problem.input_shape, self.problem.num_classes)).flops
        return sum(result.cost.evaluate_seconds for result in done) * flops / work

    # --------------------------------------------------------------------------------------------------------- the closing
    def _closing(self, trials: Sequence[Trial]) -> TrialSpec | Ended:
        """The final training, unless the searcher had its own; then the test, once."""
        trained = final_trial(trials)
        if trained is None:
            tried = sum(CLOSING in trial.spec.memo for trial in trials)
            searched = self._in_order([trial for trial in trials if CLOSING not in trial.spec.memo])
            final = self._knowing(searched).final(searched) if tried < TRIES else None
            if final is None:
                return Ended("failed", _reason(trials))
            return self._timed(final, trials).model_copy(update={"memo": {**final.memo, CLOSING: True}})
        tests = [trial for trial in trials if trial.spec.purpose == "test"]
        if any(trial.state == "done" for trial in tests):
            return Ended("done")
        return _test(trained) if len(tests) < TRIES else Ended("failed", _reason(tests))

    # -------------------------------------------------------------------------------------------------------- the searcher
    def _fresh(self) -> Searcher[Any]:
        return make_searcher(self.spec, self.problem)

    def _knowing(self, trials: Sequence[Trial]) -> Searcher[Any]:
        """The searcher, having observed exactly these."""
        numbers = [trial.number for trial in trials]
        if numbers[: len(self._shown)] != self._shown:
            self.searcher, self._shown = self._fresh(), []
        new = trials[len(self._shown) :]
        if new:
            self.searcher.observe(new)
            self._shown = numbers
        return self.searcher

    def _in_order(self, trials: Sequence[Trial]) -> list[Trial]:
        """The finished ones in the order in which the searcher is told of them."""
        finished = [trial for trial in trials if trial.finished]
        return finished if self.spec.deterministic else sorted(finished, key=lambda trial: trial.finished_seq or 0)


def _readings(result: Result) -> int:
    """How often the validation split was read."""
    return 1 + sum(point.accuracy is not None for point in result.curve)


def _as_running(trial: Trial) -> Trial:
    update = {"state": "running", "result": None, "finished_seq": None, "handle": None, "attempt": 0}
    return trial.model_copy(update=update)


def _reason(trials: Sequence[Trial]) -> str:
    failed = [trial.result.failure.reason for trial in trials if trial.result and trial.result.failure]
    if failed:
        return failed[-1]
    return "the search found no network within the limits" if trials else "the search suggested no network"


def _test(trained: Trial) -> TrialSpec:
    return TrialSpec(
        architecture=trained.spec.architecture,
        training=trained.spec.training,
        budget=Budget(steps=1),
        parent=trained.number,
        inherit="weights",
        procedure="evaluate",
        settings={"split": "test"},
        purpose="test",
    )

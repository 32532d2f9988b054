"""``Scheduler.tick()``: look at the store, look at the executor, do what is to be done next.

It is idempotent. All it knows is in the store, every change there is a compare-and-set, and what it does outside (starting
a job) can be done twice without harm; so a crash at any line is mended by the next tick.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from amla import registry
from amla.engine.planning import Ended, Planner
from amla.engine.prepare import check_final, check_needs
from amla.engine.store import Store
from amla.errors import SearchError
from amla.executors.base import Executor, JobState
from amla.spec.experiment import Experiment, trial_seed
from amla.spec.objectives import judged, measures
from amla.spec.trial import Failure, Job, Result, Trial, TrialSpec, TrialState

log = logging.getLogger(__name__)

#: A trial whose worker is lost so often under one scheduler is given up. A resume counts anew: that everything was killed
#: says nothing against the trial.
MAX_LOSSES = 3
#: Lines of a worker's log that tell why it died.
LAST_WORDS = 3


def nobody(trial: Trial) -> None:
    """A listener that does not listen."""


class Scheduler:
    """Takes one experiment to its end. ``on_event`` hears of every change of a trial; ``stop`` is asked between ticks.

    Several may work on one experiment, one after the other or at once: what one has claimed the others leave alone.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        experiment_id: str,
        *,
        on_event: Callable[[Trial], None] = nobody,
        stop: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store, self.executor, self.id = store, executor, experiment_id
        self.on_event, self.stop, self.sleep = on_event, stop, sleep
        experiment = store.experiment(experiment_id)
        self.planner = Planner(experiment)
        self._ended: dict[int, Trial] = {}  # they never change
        self._planned: list[tuple[int, str]] = []
        self._losses: Counter[int] = Counter()
        self._changed = False
        self._cancelled = False
        if not store.trials(experiment_id):
            spec = experiment.spec
            check_needs(self.planner.searcher, registry.load("trainers", spec.trainer)(), spec)
            if spec.final_trainer is not None:
                check_final(self.planner.searcher, registry.load("trainers", spec.final_trainer)(), spec)

    def run(self) -> Experiment:
        """Tick until the experiment has ended or is to stop. Errors: ``SearchError`` where the search cannot go on."""
        if self.store.experiment(self.id).state != "done":
            self.store.update(self.id, state="running", reason=None)
        first, most = self.executor.patience
        wait = first
        while not self._stopping() and self.tick():
            wait = first if self._changed else min(most, wait * 1.5)
            if not (self.executor.blocking and self._changed):
                self.sleep(wait)
        experiment = self.store.experiment(self.id)
        return experiment if experiment.state in ("done", "failed") else self._halt()

    def tick(self) -> bool:
        """One step. Returns whether there is more to do: not where the experiment has ended or was stopped."""
        self._changed = False
        experiment = self.store.experiment(self.id)
        if experiment.state in ("done", "failed", "stopped"):
            return False
        self._collect(self._trials())
        try:
            ended = self._plan(experiment, self._trials())
        except SearchError as error:
            self._cancel()
            self.store.update(self.id, state="failed", reason=str(error))
            raise
        if ended is not None:
            self.store.update(self.id, state=ended.state, reason=ended.reason)
            return False
        for trial in self._trials():
            if not self._stopping():
                self._submit(experiment, trial)
        return True

    # --------------------------------------------------------------------------------------------------------------- collect
    def _collect(self, trials: Sequence[Trial]) -> None:
        """Take in what has become of the jobs that run."""
        running = [trial for trial in trials if trial.state == "running" and trial.handle]
        states = self.executor.poll([trial.handle for trial in running if trial.handle]) if running else {}
        for trial in running:
            state = states.get(trial.handle or "", JobState(state="lost"))
            if state.state == "lost":
                self._lost(trial)
            elif state.state != "running":
                self._finished(trial, state.result or Result())

    def _finished(self, trial: Trial, result: Result) -> None:
        failure = result.failure
        if failure is not None and failure.kind == "cancelled":  # it goes on from its checkpoint some day
            self._cancelled = True
            self._transition(trial, "queued", handle=None)
        else:
            judgement = judged(result, self.planner.problem.limits)
            self._transition(trial, "failed" if failure else "done", result=judgement)

    def _lost(self, trial: Trial) -> None:
        self._losses[trial.number] += 1
        if self._losses[trial.number] < MAX_LOSSES:
            self._transition(trial, "queued", handle=None, attempt=trial.attempt + 1)
            return
        lines = [line.strip() for line in self.executor.logs(trial.handle or "") if line.strip()]
        words = " / ".join(lines[-LAST_WORDS:]) or "nothing"
        reason = f"its process died {MAX_LOSSES} times; the last it said: {words}"
        self._transition(trial, "failed", result=Result(failure=Failure(kind="crashed", reason=reason)))

    # ------------------------------------------------------------------------------------------------------------------ plan
    def _plan(self, experiment: Experiment, trials: list[Trial]) -> Ended | None:
        """Queue what is to be tried next. Returns how the experiment ended, once it has."""
        known = [(trial.number, trial.state) for trial in trials]
        if trials and known == self._planned:
            return None  # nothing has changed since nothing was to be done
        while sum(not trial.finished for trial in trials) < experiment.spec.jobs:
            following = self.planner.next(trials)
            if isinstance(following, Ended):
                return following
            if following is None or not self._queue(experiment, trials, following):
                break
        self._planned = [(trial.number, trial.state) for trial in trials]
        return None

    def _queue(self, experiment: Experiment, trials: list[Trial], spec: TrialSpec) -> bool:
        number = len(trials)
        trial = Trial(number=number, seed=trial_seed(experiment.spec.seed, number), spec=spec)
        if not self.store.add_trial(self.id, trial):
            return False  # another scheduler was quicker; the next tick sees what it did
        trials.append(trial)
        self._tell(trial)
        return True

    # ---------------------------------------------------------------------------------------------------------------- submit
    def _submit(self, experiment: Experiment, trial: Trial) -> None:
        """Claim a queued trial, then start it. One that was claimed and has no handle is started once more: whoever claimed
        it died in between, or is at it this moment, which the executor sees."""
        if trial.state == "queued":
            if not self._transition(trial, "running", handle=None):
                return
            trial = trial.model_copy(update={"state": "running", "handle": None})
        if trial.state != "running" or trial.handle is not None:
            return
        handle = self.executor.submit(job_of(experiment, trial))
        if self._transition(trial, "running", handle=handle) and self.executor.blocking:
            self._collect([trial.model_copy(update={"handle": handle})])

    def _transition(self, trial: Trial, after: TrialState, **fields: object) -> bool:
        """False where another scheduler was quicker."""
        changed = self.store.transition(self.id, trial.number, trial.state, after, at_attempt=trial.attempt, **fields)
        if changed:
            self._tell(trial.model_copy(update={"state": after, **fields}))
        return changed

    def _tell(self, trial: Trial) -> None:
        self._changed = True
        log.info("trial", extra={"experiment": self.id, "trial": trial.number, "state": trial.state})
        self.on_event(trial)

    def _trials(self) -> list[Trial]:
        """All, by number. Those that have ended are read once."""
        last = max((trial.finished_seq or 0 for trial in self._ended.values()), default=-1)
        read = {trial.number: trial for trial in self.store.trials(self.id, after=last)}
        self._ended |= {number: trial for number, trial in read.items() if trial.finished}
        return [trial for _, trial in sorted((self._ended | read).items())]

    # ------------------------------------------------------------------------------------------------------------------ stop
    def _stopping(self) -> bool:
        """A job that was cancelled in this very process means that somebody wants to stop."""
        return self.stop() or (self._cancelled and self.executor.blocking)

    def _halt(self) -> Experiment:
        """Workers are asked to write a checkpoint; their trials wait for a resume."""
        self._cancel()
        for trial in self._trials():
            if trial.state == "running" and trial.handle:
                state = self.executor.poll([trial.handle])[trial.handle]
                if state.state == "lost":
                    self._transition(trial, "queued", handle=None)
                elif state.result is not None:
                    self._finished(trial, state.result)
        return self.store.update(self.id, state="stopped")

    def _cancel(self) -> None:
        """All at once: each may take its time."""
        handles = [trial.handle for trial in self._trials() if trial.state == "running" and trial.handle]
        if handles:
            with ThreadPoolExecutor(len(handles)) as pool:
                list(pool.map(self.executor.cancel, handles))


def job_of(experiment: Experiment, trial: Trial) -> Job:
    """What an executor runs for a trial."""
    parent = trial.spec.parent
    return Job(
        experiment=experiment.id,
        number=trial.number,
        seed=trial.seed,
        attempt=trial.attempt,
        spec=trial.spec,
        dataset=experiment.spec.dataset,
        trainer=experiment.spec.trainer_of(trial.spec.purpose),
        folder=experiment.trial_folder(trial.number),
        parent_folder=experiment.trial_folder(parent) if parent is not None else None,
        resources=experiment.spec.resources,
        measured=experiment.measured,
        measures=measures(experiment.problem, trial.spec.procedure),
    )

"""``Scheduler.tick()``: look at the store, look at the executor, do what is to be done next.

It is idempotent. All it knows is in the store, every change there is a compare-and-set, and what it does outside (starting
a job) can be done twice without harm; so a crash at any line is mended by the next tick.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from amla import registry
from amla.engine.prepare import check_needs, make_searcher
from amla.engine.store import Store
from amla.engine.summary import search_seconds
from amla.errors import SearchError
from amla.executors.base import Executor, JobState
from amla.searchers.base import Searcher
from amla.spec.experiment import Experiment, trial_seed
from amla.spec.training import Budget
from amla.spec.trial import Failure, Job, Result, Trial, TrialSpec

log = logging.getLogger(__name__)

#: A trial whose worker was lost so often is given up.
MAX_ATTEMPTS = 3
#: Seconds to wait between two ticks while jobs run elsewhere: at first, and at most.
WAIT = (0.05, 0.5)


def nobody(trial: Trial) -> None:
    """A listener that does not listen."""


class Scheduler:
    """Takes one experiment to its end. ``on_event`` hears of every change of a trial; ``stop`` is asked between ticks."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        experiment_id: str,
        *,
        on_event: Callable[[Trial], None] = nobody,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.store, self.executor, self.id = store, executor, experiment_id
        self.on_event, self.stop = on_event, stop
        experiment = store.experiment(experiment_id)
        self.searcher = make_searcher(experiment.spec, experiment.problem)
        check_needs(self.searcher, registry.load("trainers", experiment.spec.trainer)(), experiment.spec.trainer)
        self.observed: list[Trial] = []

    def run(self) -> Experiment:
        """Tick until the experiment has ended or is to stop. Errors: ``SearchError`` where the search cannot go on."""
        experiment = self.store.experiment(self.id)
        if experiment.state != "done":
            self.store.update(self.id, state="running", reason=None)
        wait = WAIT[0]
        while self.tick():
            if self.stop():
                return self._stopped()
            if not self.executor.blocking:
                time.sleep(wait)
                wait = min(WAIT[1], wait * 1.5)
        return self.store.experiment(self.id)

    def tick(self) -> bool:
        """One step. Returns whether there is more to do."""
        experiment = self.store.experiment(self.id)
        if experiment.state in ("done", "failed"):
            return False
        self._poll()
        trials = self.store.trials(self.id)
        self._observe(experiment, trials)
        self._suggest(experiment, trials)
        trials = self.store.trials(self.id)
        for trial in trials:
            if trial.state == "queued" and not self.stop():
                self._submit(experiment, trial)
        return self._go_on(experiment)

    # ------------------------------------------------------------------------------------------------------------------ poll
    def _poll(self) -> None:
        running = [trial for trial in self.store.trials(self.id) if trial.state == "running"]
        states = self.executor.poll([trial.handle for trial in running if trial.handle])
        for trial in running:
            state = states.get(trial.handle or "", JobState(state="lost"))
            if state.state != "running":
                self._ended(trial, state)

    def _ended(self, trial: Trial, state: JobState) -> None:
        failure = state.result.failure if state.result else None
        if failure is not None and failure.kind == "cancelled":
            self._transition(trial, "queued", handle=None)
        elif state.state == "lost" and trial.attempt + 1 < MAX_ATTEMPTS:
            log.warning("%s: trial %d was lost; it is tried again", self.id, trial.number)
            self._transition(trial, "queued", handle=None, attempt=trial.attempt + 1)
        elif state.state == "lost":
            lines = list(self.executor.logs(trial.handle)) if trial.handle else []
            last = next((line for line in reversed(lines) if line.strip()), "no word of it")
            reason = f"its process died {MAX_ATTEMPTS} times; the last it said: {last.strip()}"
            self._transition(trial, "failed", result=Result(failure=Failure(kind="crashed", reason=reason)))
        else:
            self._transition(trial, "failed" if failure else "done", result=state.result)

    # --------------------------------------------------------------------------------------------------------------- observe
    def _observe(self, experiment: Experiment, trials: Sequence[Trial]) -> None:
        """Give the searcher what has finished. With ``deterministic``, in the order of numbers, and only when it is time
        for it (``_suggest``)."""
        if not experiment.spec.deterministic:
            seen = {trial.number for trial in self.observed}
            finished = [trial for trial in self._searched(trials) if trial.finished and trial.number not in seen]
            self._give(sorted(finished, key=lambda trial: trial.finished_seq or 0))

    def _give(self, trials: Sequence[Trial]) -> None:
        if trials:
            self.searcher.observe(trials)
            self.observed += trials

    def _give_up_to(self, number: int, searched: Sequence[Trial]) -> bool:
        """Observe all trials numbered below ``number``; False where one of them has not finished."""
        for trial in searched[len(self.observed) :]:
            if trial.number >= number:
                break
            if not trial.finished:
                return False
            self._give([trial])
        return True

    # --------------------------------------------------------------------------------------------------------------- suggest
    def _suggest(self, experiment: Experiment, trials: list[Trial]) -> None:
        jobs = experiment.spec.jobs
        while len([trial for trial in trials if not trial.finished]) < jobs:
            spec = self._next(experiment, trials)
            if spec is None:
                return
            number = len(trials)
            trial = Trial(number=number, seed=trial_seed(experiment.spec.seed, number), spec=spec)
            if not self.store.add_trial(self.id, trial):
                return  # another scheduler was quicker; the next tick sees what it did
            trials.append(trial)
            self.on_event(trial)

    def _next(self, experiment: Experiment, trials: Sequence[Trial]) -> TrialSpec | None:
        """What is to be tried next: a suggestion, the final training, or the test; None: nothing now."""
        searched = self._searched(trials)
        if self._searching(experiment, searched):
            return self._suggestion(experiment, trials, searched)
        if any(not trial.finished for trial in trials):
            return None
        self._give_up_to(len(trials), searched)
        final = [trial for trial in trials if trial.spec.purpose == "final"]
        trained = next((trial for trial in final if trial.state == "done"), None)
        if trained is None:
            return self.searcher.final(self.observed) if len(final) < 2 else None
        if any(trial.spec.purpose == "test" for trial in trials):
            return None
        return _test(trained)

    def _suggestion(
        self, experiment: Experiment, trials: Sequence[Trial], searched: Sequence[Trial]
    ) -> TrialSpec | None:
        number = len(trials)
        if experiment.spec.deterministic:
            known = max(0, number - experiment.spec.jobs + 1)
            if not self._give_up_to(known, searched):
                return None
            # whatever has become of them: to the searcher they still run
            active = [
                trial.model_copy(
                    update={"state": "running", "result": None, "finished_seq": None, "handle": None, "attempt": 0}
                )
                for trial in searched
                if trial.number >= known
            ]
        else:
            active = [trial for trial in searched if not trial.finished]
        spec = self.searcher.suggest(active, number)
        if spec is None and not any(not trial.finished for trial in trials):
            if active:  # nothing runs, yet the searcher waits for what it has not been shown: show it
                self._give_up_to(number, searched)
                spec = self.searcher.suggest([], number)
            if spec is None and not self.searcher.finished:
                raise SearchError(f"{self.id}: the searcher suggests nothing, waits for nothing, and is not finished")
        return spec

    def _searching(self, experiment: Experiment, searched: Sequence[Trial]) -> bool:
        """Whether the search itself is to go on: the searcher has more, and its budget is not spent."""
        if self.searcher.finished or any(trial.spec.purpose == "final" for trial in searched if trial.state == "done"):
            return False
        search = [trial for trial in searched if trial.spec.purpose == "search"]
        most = experiment.problem.trials
        if most is not None and len(search) >= most and len(search) == len(searched):
            return not all(trial.finished for trial in search) or self._owns_final(search)
        budget = experiment.spec.time_budget
        return budget is None or search_seconds(search) < budget

    def _owns_final(self, search: Sequence[Trial]) -> bool:
        """Whether the searcher is about to suggest its own final trial, which counts as none of the search's."""
        self._give_up_to(search[-1].number + 1, search)
        spec = None if self.searcher.finished else self.searcher.suggest([], search[-1].number + 1)
        return spec is not None and spec.purpose == "final"

    # ---------------------------------------------------------------------------------------------------------------- submit
    def _submit(self, experiment: Experiment, trial: Trial) -> None:
        job = job_of(experiment, trial)
        if self.executor.blocking:
            # Marked first: where the process dies during the job, the next one finds the trial running and its worker lost.
            if not self._transition(trial, "running", handle=f"inline:{job.folder}:{job.attempt}"):
                return
            handle = self.executor.submit(job)
            running = trial.model_copy(update={"state": "running", "handle": handle})
            self._ended(running, self.executor.poll([handle])[handle])
        else:
            self._transition(trial, "running", handle=self.executor.submit(job))

    def _transition(self, trial: Trial, after: Any, **fields: Any) -> bool:
        changed = self.store.transition(self.id, trial.number, trial.state, after, **fields)
        if changed:
            self.on_event(trial.model_copy(update={"state": after, **fields}))
        return changed

    # --------------------------------------------------------------------------------------------------------------- closing
    def _go_on(self, experiment: Experiment) -> bool:
        trials = self.store.trials(self.id)
        if any(not trial.finished for trial in trials):
            return True
        tested = [trial for trial in trials if trial.spec.purpose == "test"]
        if any(trial.state == "done" for trial in tested):
            self.store.update(self.id, state="done")
            return False
        if self._next(experiment, trials) is not None:
            return True
        failed = [trial.result.failure.reason for trial in trials if trial.result and trial.result.failure]
        reason = failed[-1] if failed else "the search found no network"
        self.store.update(self.id, state="failed", reason=reason)
        return False

    def _stopped(self) -> Experiment:
        """Workers are asked to write a checkpoint; their trials wait for a resume."""
        for trial in self.store.trials(self.id):
            if trial.state == "running" and trial.handle:
                self.executor.cancel(trial.handle)
                state = self.executor.poll([trial.handle])[trial.handle]
                if state.state == "lost":
                    self._transition(trial, "queued", handle=None)
                elif state.state != "running":
                    self._ended(trial, state)
        if self.store.experiment(self.id).state == "done":
            return self.store.experiment(self.id)
        return self.store.update(self.id, state="stopped")

    def _searched(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials that the searcher has suggested: all of the search, and a final one of its own."""
        return [
            t for t in trials if t.spec.purpose == "search" or (t.spec.purpose == "final" and _owned(self.searcher, t))
        ]


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
        trainer=experiment.spec.trainer,
        folder=experiment.trial_folder(trial.number),
        parent_folder=experiment.trial_folder(parent) if parent is not None else None,
        resources=experiment.spec.resources,
        measured=experiment.measured,
    )


def _owned(searcher: Searcher[Any], trial: Trial) -> bool:
    """Whether a final trial is the searcher's own last one (the scheduler's are not shown to it)."""
    return trial.spec.purpose == "final" and searcher.closes


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

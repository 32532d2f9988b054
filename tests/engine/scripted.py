"""An executor whose jobs end in a made-up order, and what an experiment comes to but for its seconds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from amla.engine.store import Store
from amla.executors.base import Executor, JobState
from amla.executors.runner import run_job
from amla.spec.trial import Cost, Failure, Job, Result
from amla.testing import tiny
from amla.testing.executors import timeless


class Scripted(Executor):
    """At every poll one of the jobs ends, drawn by ``seed``. It outlives schedulers, as a cluster does.

    ``lost``: attempts that are lost, by trial; ``failing``: trials that end with a failure; ``seconds``: what each costs.
    """

    def __init__(
        self, seed: int = 0, lost: Mapping[int, int] = {}, failing: Sequence[int] = (), seconds: float = 1.0
    ) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.lost, self.failing, self.seconds = lost, failing, seconds
        self.jobs: dict[str, Job] = {}
        self.states: dict[str, JobState] = {}
        self.most = 0

    def submit(self, job: Job) -> str:
        handle = f"{job.number}/{job.attempt}"
        if handle not in self.states:
            self.jobs[handle] = job
            self.most = max(self.most, len(self.jobs))
        return handle

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        asked = sorted(set(handles) & set(self.jobs))
        if asked:
            handle = asked[self.rng.integers(len(asked))]
            self.states[handle] = self.end(self.jobs.pop(handle))
        return {handle: self.state(handle) for handle in handles}

    def state(self, handle: str) -> JobState:
        running = JobState(state="running" if handle in self.jobs else "lost")
        return self.states.get(handle, running)

    def end(self, job: Job) -> JobState:
        if job.attempt < self.lost.get(job.number, 0):
            return JobState(state="lost")
        if job.number in self.failing:
            failure = Failure(kind="nan", reason=f"loss is nan in trial {job.number}")
            return JobState(state="failed", result=Result(failure=failure))
        result = run_job(job).model_copy(update={"cost": Cost(seconds=self.seconds)})
        return JobState(state="failed" if result.failure else "done", result=result)

    def cancel(self, handle: str) -> None:
        if handle in self.jobs:
            del self.jobs[handle]

    def logs(self, handle: str) -> Iterator[str]:
        yield from ("one", "", f"the last words of {handle}")


def content(store: Store, experiment: str = "tiny") -> list[dict[str, Any]]:
    """All trials of an experiment: specs, states and results, without seconds and without the road to them."""
    return [
        {
            "number": trial.number,
            "seed": trial.seed,
            "state": trial.state,
            "purpose": trial.spec.purpose,
            "channels": tiny.width(trial.spec.architecture),
            "spec": trial.spec.to_data(),
            "result": timeless(trial.result),
        }
        for trial in store.trials(experiment)
    ]


def purposes(store: Store) -> str:
    """Purpose and fate of each trial, in brief: ``s`` search, ``f`` final, ``t`` test; capitals failed."""
    letters = [(trial.spec.purpose[0], trial.state) for trial in store.trials("tiny")]
    return "".join(letter.upper() if state == "failed" else letter for letter, state in letters)

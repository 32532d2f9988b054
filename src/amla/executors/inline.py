"""In this very process, one job after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from amla.executors.base import Executor, JobState
from amla.executors.runner import run_job
from amla.spec.trial import Job, Result
from amla.trainers.base import Reporter, silent


class InlineExecutor(Executor):
    """``submit`` runs the job and returns when it has ended. A handle does not survive the process: after a crash it is
    ``lost``, and the job, submitted again, goes on from its last checkpoint."""

    blocking: ClassVar[bool] = True

    def __init__(self, report: Reporter = silent) -> None:
        super().__init__(report)
        self.results: dict[str, Result] = {}

    def submit(self, job: Job) -> str:
        handle = f"inline:{job.folder}:{job.attempt}"
        self.results[handle] = run_job(job, self.report)
        return handle

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        return {handle: self._state(handle) for handle in handles}

    def cancel(self, handle: str) -> None:
        """Nothing runs between two calls; the reporter is what stops a job."""

    def logs(self, handle: str) -> Iterator[str]:  # noqa: ARG002  # it printed on this process's own output
        return iter(())

    def _state(self, handle: str) -> JobState:
        result = self.results.get(handle)
        if result is None:
            return JobState(state="lost")
        return JobState(state="failed" if result.failure else "done", result=result)

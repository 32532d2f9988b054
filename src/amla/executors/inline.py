"""In this very process, one job after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from amla.executors.base import Executor, JobState
from amla.executors.folder import Busy, holder, local_path
from amla.executors.runner import run_job, stored_result
from amla.spec.trial import Job, Result
from amla.trainers.base import Reporter, silent


class InlineExecutor(Executor):
    """``submit`` runs the job and returns when it has ended.

    A job whose process dies is ``lost``; submitted again, it goes on from its last checkpoint. What a job raises, apart
    from a trial that ends badly, comes out of ``submit``. Jobs stop when the reporter says so.
    """

    blocking: ClassVar[bool] = True

    def __init__(self, report: Reporter = silent) -> None:
        super().__init__(report)
        #: Of jobs that ended here: a cancelled one leaves no file.
        self.results: dict[str, Result] = {}

    def submit(self, job: Job) -> str:
        handle = json.dumps({"folder": job.folder, "attempt": job.attempt})
        self.results.pop(handle, None)
        try:
            self.results[handle] = run_job(job, self.report)
        except Busy:  # another scheduler runs it; ``poll`` says so
            return handle
        return handle

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        return {handle: self._state(handle) for handle in handles}

    def cancel(self, handle: str) -> None:
        """Nothing runs between two calls; the reporter is what stops a job."""

    def logs(self, handle: str) -> Iterator[str]:  # noqa: ARG002  # it printed on this process's own output
        return iter(())

    def _state(self, handle: str) -> JobState:
        try:
            known = json.loads(handle)
            folder, attempt = str(known["folder"]), int(known["attempt"])
        except (ValueError, KeyError, TypeError):  # of another executor
            return JobState(state="lost")
        path = local_path(folder)
        held = path is not None and holder(path) is not None  # asked before the result is read: it may end in between
        result = self.results.get(handle) or stored_result(folder, attempt)
        if result is not None:
            return JobState(state="failed" if result.failure else "done", result=result)
        return JobState(state="running" if held else "lost")

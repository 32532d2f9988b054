"""Several workers on one machine, simulated: jobs end in the order of the seconds that they cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from amla import artifacts
from amla.executors.base import Executor, JobState
from amla.executors.runner import run_job, stored_result
from amla.spec.trial import Job
from amla.trainers.base import Reporter, silent

CLOCK = "clock.json"


class SimulatedExecutor(Executor):
    """``submit`` runs the job here and now, and hides its result until a simulated clock has reached the job's end.

    The clock begins at 0 and moves when ``poll`` finds nothing that has ended: to the next end. So a search with several
    jobs at once goes as it would on as many machines, in the table's time (``Cost.simulated``) or in what was measured. The
    clock stands in a file beside the trials' folders, so that a resumed search goes on with it.
    """

    patience: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def __init__(self, report: Reporter = silent) -> None:
        super().__init__(report)

    def submit(self, job: Job) -> str:
        place = job.folder.rpartition("/")[0]
        ends = _clock(place) + run_job(job, self.report).cost.seconds
        return json.dumps({"folder": job.folder, "attempt": job.attempt, "ends": ends})

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        ends = {handle: end for handle in handles if (end := _end(handle)) is not None}
        places = {_folder(handle).rpartition("/")[0] for handle in ends}
        clocks = {place: self._moved(place, ends) for place in places}
        return {handle: self._state(handle, ends.get(handle), clocks) for handle in handles}

    def cancel(self, handle: str) -> None:
        """Nothing runs between two calls."""

    def logs(self, handle: str) -> Iterator[str]:  # noqa: ARG002  # it printed on this process's own output
        return iter(())

    def _moved(self, place: str, ends: Mapping[str, float]) -> float:
        """The clock of one experiment, moved to the first end where nothing has ended yet."""
        clock = _clock(place)
        first = min(end for handle, end in ends.items() if _folder(handle).rpartition("/")[0] == place)
        if first > clock:
            artifacts.write_json(place, CLOCK, first)
        return max(first, clock)

    def _state(self, handle: str, end: float | None, clocks: Mapping[str, float]) -> JobState:
        if end is None:
            return JobState(state="lost")
        known = json.loads(handle)
        result = stored_result(known["folder"], known["attempt"])
        if result is None:
            return JobState(state="lost")
        if end > clocks[known["folder"].rpartition("/")[0]]:
            return JobState(state="running")
        return JobState(state="failed" if result.failure else "done", result=result)


def _clock(place: str) -> float:
    return float(artifacts.read_json(place, CLOCK) or 0.0)

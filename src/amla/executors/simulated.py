"""Several workers on one machine, simulated: jobs end in the order of the seconds that they cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

from amla import artifacts
from amla.executors.base import JobState
from amla.executors.inline import InlineExecutor
from amla.spec.trial import Job

CLOCK = "clock.json"


class SimulatedExecutor(InlineExecutor):
    """``submit`` runs the job here and now, and its result is hidden until a simulated clock has reached the job's end.

    The clock begins at 0 and moves when ``poll`` finds nothing that has ended: to the next end. So a search with several
    jobs at once goes as it would on as many machines, in a table's time (``Cost.simulated``) or in what was measured. The
    clock stands in a file beside the trials' folders, and a resumed search goes on with it.
    """

    blocking: ClassVar[bool] = False
    patience: ClassVar[tuple[float, float]] = (0.0, 0.0)

    def submit(self, job: Job) -> str:
        handle = super().submit(job)
        result = self.results.get(handle)
        ends = _clock(_place(job.folder)) + (result.cost.seconds if result else 0.0)
        return json.dumps({**json.loads(handle), "ends": ends})

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        states = dict(super().poll(handles))
        ends = {handle: json.loads(handle)["ends"] for handle, state in states.items() if state.result is not None}
        for place in {_place(json.loads(handle)["folder"]) for handle in ends}:
            here = [handle for handle in ends if _place(json.loads(handle)["folder"]) == place]
            clock = _moved(place, min(ends[handle] for handle in here))
            states |= {handle: JobState(state="running") for handle in here if ends[handle] > clock}
        return states


def _place(folder: str) -> str:
    """The folder that all trials of an experiment have in common."""
    return folder.rpartition("/")[0]


def _clock(place: str) -> float:
    return float(artifacts.read_json(place, CLOCK) or 0.0)


def _moved(place: str, end: float) -> float:
    """The clock, moved to ``end`` where it stood before."""
    clock = _clock(place)
    if end > clock:
        artifacts.write_json(place, CLOCK, end)
    return max(end, clock)

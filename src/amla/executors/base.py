"""The contract of an executor: where a job runs. It knows nothing of search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from amla.spec.base import Document
from amla.spec.trial import Job, Progress, Result
from amla.trainers.base import Reporter, silent


class JobState(Document):
    """What is known of a submitted job. ``result`` is there when it is ``done`` or ``failed``; ``lost`` means that nobody
    knows of it any more (its process died, its machine is gone): the scheduler submits it again."""

    state: Literal["running", "done", "failed", "lost"]
    result: Result | None = None
    progress: Progress | None = None


class Executor(ABC):
    """Runs jobs somewhere. Handles are strings that survive a restart of whoever submitted.

    A job's result is what it left as ``result.json`` in its folder; an executor only starts, watches and stops.
    """

    #: Whether ``submit`` returns only when the job has ended.
    blocking: ClassVar[bool] = False
    #: Seconds that the scheduler waits between two looks while nothing happens: at first, and at most.
    patience: ClassVar[tuple[float, float]] = (0.05, 0.5)

    def __init__(self, report: Reporter = silent) -> None:
        self.report = report

    @abstractmethod
    def submit(self, job: Job) -> str:
        """Start a job. Returns its handle."""

    @abstractmethod
    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        """The state of each handle; an unknown one is ``lost``."""

    @abstractmethod
    def cancel(self, handle: str) -> None:
        """Stop a job and everything that it started. Nothing happens where it has ended."""

    @abstractmethod
    def logs(self, handle: str) -> Iterator[str]:
        """What the job has printed so far, line by line."""

    def close(self) -> None:  # noqa: B027  # most executors hold nothing
        """Let go of what this object holds; jobs go on where they can."""

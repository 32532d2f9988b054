"""``python -m amla.executors.worker FOLDER``: run the job of a folder, alone.

Exit codes: 0 the job has left a result, 3 it was asked to stop and has left a checkpoint, 4 another worker has the folder.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import psutil

from amla import artifacts
from amla.executors.process import JOB, LOCK, PROGRESS, holder
from amla.executors.runner import run_job
from amla.spec.trial import Job, Progress

STOPPED, TAKEN = 3, 4
#: Seconds between two writes of the progress.
TELL = 0.5


class _Reporter:
    """Writes progress now and then, and says stop once a signal has come."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.stopping = False
        self.told = 0.0

    def on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # as the signal module calls it
        self.stopping = True

    def __call__(self, progress: Progress) -> bool:
        now = time.monotonic()
        if now - self.told > TELL:
            self.told = now
            artifacts.write(self.folder, PROGRESS, progress.to_json().encode())
        return not self.stopping


def main(folder: str) -> int:
    me = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    other = holder(Path(folder))
    if other is not None and other["pid"] != me["pid"]:
        return TAKEN
    artifacts.write_json(folder, LOCK, me)
    content = artifacts.read(folder, JOB)
    if content is None:
        raise FileNotFoundError(f"{folder}/{JOB}")
    reporter = _Reporter(folder)
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, reporter.on_signal)
    result = run_job(Job.from_json(content), reporter)
    return STOPPED if result.failure and result.failure.kind == "cancelled" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

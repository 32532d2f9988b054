"""``python -m amla.executors.worker FOLDER``: run the job of a folder, alone.

Exit codes: 0 the job has left a result, 2 it could not run (the log says why), 3 it was asked to stop and has left a
checkpoint, 4 another worker has the folder.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from types import FrameType

import psutil

from amla import artifacts
from amla.errors import AmlaError, ConfigError
from amla.executors.folder import JOB, PROGRESS, Busy
from amla.executors.runner import run_job
from amla.spec.trial import Job, Progress

FAILED, STOPPED, TAKEN = 2, 3, 4
#: Seconds between two writes of the progress.
TELL = 0.25


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
    """Run the job that stands in a folder. Returns the exit code."""
    reporter = _Reporter(folder)
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, reporter.on_signal)
    try:
        content = artifacts.read(folder, JOB)
        if content is None:
            raise ConfigError(f"there is no {JOB} in {folder}")
        result = run_job(Job.from_json(content), reporter)
    except Busy:
        return TAKEN
    except AmlaError as error:
        sys.stderr.write(f"amla: {error}\n")
        return FAILED
    finally:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    return STOPPED if result.failure and result.failure.kind == "cancelled" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""A job's folder on this machine: what stands in it, and which process works there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from amla import artifacts
from amla.errors import SpecError
from amla.spec.base import Document

JOB, LOG, OWNER, PROGRESS, GUARD = "job.json", "log.txt", "owner.json", "progress.json", ".guard"
#: Seconds by which the start time of a process may seem to move when the machine's clock is set.
DRIFT = 1.0


#: Folders that this very process has claimed. One that was claimed for it by whoever started it is not among them.
_held: set[Path] = set()


class Busy(Exception):
    """Another live process works in the folder."""


class Worker(Document):
    """A process, by number and start time, so that a number that is used again is not mistaken for it."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Worker:
        """Errors: ``psutil.NoSuchProcess``."""
        return cls(pid=pid, started=psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process while it lives; None once it has ended, though its parent may not have noticed."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < DRIFT
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        return self.process() is not None


def local_path(uri: str) -> Path | None:
    """The path of a folder on this machine; None for any other URI."""
    path = uri.removeprefix("file://")
    return None if "://" in path else Path(path)


def holder(folder: Path) -> Worker | None:
    """The live process that works in a folder; None where there is none."""
    content = artifacts.read(str(folder), OWNER)
    if content is None:
        return None
    try:
        worker = Worker.from_json(content)
    except SpecError:  # cut off by a power failure: whoever wrote it is gone
        return None
    return worker if worker.alive else None


@contextlib.contextmanager
def claimed(uri: str) -> Iterator[None]:
    """This process alone works in the folder. A folder elsewhere is not guarded: its executor has to see to that.

    Errors: ``Busy``.
    """
    folder = local_path(uri)
    if folder is None:
        yield
        return
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with guarded(folder):
        other = holder(folder)
        if folder in _held or (other is not None and other.pid != os.getpid()):
            raise Busy(uri)
        hold(folder, Worker.of(os.getpid()))
        _held.add(folder)
    try:
        yield
    finally:
        _held.discard(folder)
        (folder / OWNER).unlink(missing_ok=True)


def hold(folder: Path, worker: Worker) -> None:
    """Note that a process has the folder. To be called with ``guarded``, where nobody has it."""
    artifacts.write(str(folder), OWNER, worker.to_json().encode())


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Between looking who holds the folder and taking it, nobody else looks. The system lets go of it for the dead."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / GUARD).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

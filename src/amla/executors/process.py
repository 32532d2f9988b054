"""Every job in a process of its own, on this machine."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from amla import artifacts
from amla.errors import ConfigError
from amla.executors.base import Executor, JobState
from amla.executors.runner import stored_result
from amla.spec.trial import Job, Progress
from amla.trainers.base import Reporter, silent

JOB, LOG, LOCK, PROGRESS = "job.json", "log.txt", "lock.json", "progress.json"
#: Seconds between asking a job to stop and killing it.
GRACE = 10.0


class ProcessExecutor(Executor):
    """Starts ``python -m amla.executors.worker FOLDER``. The folder is the whole connection: job, log, progress, result.

    A worker outlives its scheduler; one that comes back finds it by the handle (folder, process number and start time, so
    that a number used again is not mistaken for it). Where there are several GPUs, jobs are dealt out over them.
    """

    def __init__(self, report: Reporter = silent) -> None:
        super().__init__(report)
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.gpus = itertools.cycle(_gpus())

    def submit(self, job: Job) -> str:
        folder = local(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        running = holder(folder)
        if running is not None:
            return _handle(folder, running, job.attempt)
        if job.resources.gpu is None:
            gpu = next(self.gpus, None)
            job = job.model_copy(update={"resources": job.resources.model_copy(update={"gpu": gpu})})
        artifacts.write(str(folder), JOB, job.to_json().encode())
        with (folder / LOG).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "amla.executors.worker", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.children[child.pid] = child
        return _handle(folder, {"pid": child.pid, "started": psutil.Process(child.pid).create_time()}, job.attempt)

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        for child in self.children.values():
            child.poll()
        return {handle: self._state(json.loads(handle)) for handle in handles}

    def cancel(self, handle: str) -> None:
        known = json.loads(handle)
        process = _alive(known)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + GRACE
        while _alive(known) is not None and time.monotonic() < until:
            child = self.children.get(process.pid)
            if child is not None:
                child.poll()
            time.sleep(0.05)
        if _alive(known) is not None:
            os.killpg(process.pid, signal.SIGKILL)

    def logs(self, handle: str) -> Iterator[str]:
        path = Path(json.loads(handle)["folder"]) / LOG
        if path.exists():
            yield from path.read_text(errors="replace").splitlines()

    def close(self) -> None:
        """Workers that still run go on; the next scheduler finds them."""
        for child in self.children.values():
            if child.poll() is None:
                # Left to itself on purpose: not a child that was forgotten.
                child.returncode = 0

    def _state(self, known: dict[str, object]) -> JobState:
        folder = Path(str(known["folder"]))
        alive = _alive(known) is not None  # asked before the result is read: it may end in between
        content = artifacts.read(str(folder), JOB)
        job = Job.from_json(content) if content else None
        result = stored_result(job) if job and job.attempt == known["attempt"] else None
        if result is not None:
            return JobState(state="failed" if result.failure else "done", result=result)
        if not alive:
            return JobState(state="lost")
        told = artifacts.read(str(folder), PROGRESS)
        progress = Progress.from_json(told) if told else None
        if progress is not None:
            self.report(progress)
        return JobState(state="running", progress=progress)


def local(uri: str) -> Path:
    """The path of a folder on this machine. Errors: ``ConfigError`` for any other URI."""
    path = uri.removeprefix("file://")
    if "://" in path:
        raise ConfigError(f"the executor 'process' needs a folder on this machine, not {uri}")
    return Path(path)


def holder(folder: Path) -> dict[str, float] | None:
    """The live worker that holds a folder, as ``pid`` and ``started``; None where nobody does."""
    known = artifacts.read_json(str(folder), LOCK)
    return known if known and _alive(known) is not None else None


def _alive(known: Mapping[str, object]) -> psutil.Process | None:
    try:
        process = psutil.Process(int(str(known["pid"])))
        same = abs(process.create_time() - float(str(known["started"]))) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _handle(folder: Path, process: Mapping[str, float], attempt: int) -> str:
    return json.dumps({"folder": str(folder), "attempt": attempt, **process}, sort_keys=True)


def _gpus() -> list[str]:
    """The GPUs of this machine, as the driver lists them (no ML library is imported for it); nothing where one or none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        count = len([name for name in visible.split(",") if name])
    else:
        count = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    return [f"cuda:{index}" for index in range(count)] if count > 1 else []

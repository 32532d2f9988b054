"""Every job in a process of its own, on this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from amla import artifacts
from amla.errors import ConfigError, SpecError
from amla.executors.base import Executor, JobState
from amla.executors.folder import JOB, LOG, PROGRESS, Worker, guarded, hold, holder, local_path
from amla.executors.gpus import isolated, list_gpus
from amla.executors.runner import stored_result
from amla.spec.base import Document
from amla.spec.trial import Job, Progress
from amla.trainers.base import Reporter, silent

#: Seconds between asking a job to stop and killing it.
GRACE = 10.0
#: Seconds that a killed process may take to be gone (the kernel frees its memory first).
DYING = 5.0
#: In the environment of a worker and of everything that it starts: the job's folder.
MARK = "AMLA_JOB"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

#: Workers that this very process has started, until they have ended and been noticed; they outlive their executor.
_children: dict[int, subprocess.Popen[bytes]] = {}


class Handle(Document):
    """What is known of a submitted job. ``worker`` is None where the job had left its result already."""

    folder: str
    attempt: int
    worker: Worker | None = None
    gpu: str | None = None


class ProcessExecutor(Executor):
    """Starts ``python -m amla.executors.worker FOLDER``. The folder is the whole connection: job, log, progress, result.

    A worker outlives its scheduler; one that comes back finds it by the handle. Where there are several GPUs, each job sees
    the one that has the fewest. ``grace`` is the time in seconds that a job gets to write a checkpoint when it is
    cancelled; ``gpus`` are those to use, as CUDA numbers them (None: all).
    """

    def __init__(self, report: Reporter = silent, *, grace: float = GRACE, gpus: Sequence[str] | None = None) -> None:
        super().__init__(report)
        self.grace = grace
        self._gpus = gpus
        #: Handle of a job that may still run -> its GPU.
        self._placed: dict[str, str | None] = {}

    def submit(self, job: Job) -> str:
        """Start a worker; where one has this folder already, that one is it. Errors: ``ConfigError`` (a folder elsewhere)."""
        folder = local_path(job.folder)
        if folder is None:
            raise ConfigError(f"the executor 'process' needs a folder on this machine, not {job.folder}")
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        gpu = None
        with guarded(folder):
            running = holder(folder)
            if running is None and stored_result(str(folder), job.attempt) is None:
                gpu = self._pick(job)
                running = _start(job, folder, gpu)
                hold(folder, running)
        handle = Handle(folder=str(folder), attempt=job.attempt, worker=running, gpu=gpu).to_json()
        self._placed[handle] = gpu
        return handle

    def poll(self, handles: Sequence[str]) -> Mapping[str, JobState]:
        _reap()
        states = {handle: self._state(handle) for handle in handles}
        for handle, state in states.items():
            if state.state != "running":
                self._placed.pop(handle, None)
        return states

    def cancel(self, handle: str) -> None:
        known = _parsed(handle)
        worker = _worker(known) if known else None
        process = worker.process() if worker else None
        if known is None or worker is None or process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            _wait(worker, self.grace)
            process.kill()
            _wait(worker, DYING)  # a signal is no death yet, and who asks next must not hear that it runs
        _sweep(known, worker)
        _reap()

    def logs(self, handle: str) -> Iterator[str]:
        known = _parsed(handle)
        content = artifacts.read(known.folder, LOG) if known else None
        yield from (content or b"").decode(errors="replace").splitlines()

    def _state(self, handle: str) -> JobState:
        known = _parsed(handle)
        if known is None:
            return JobState(state="lost")
        # Asked before the result is read: it may end in between.
        worker = _worker(known)
        alive = worker is not None and worker.alive
        result = stored_result(known.folder, known.attempt)
        if not alive and worker is not None:
            _sweep(known, worker)
        if result is not None:
            return JobState(state="failed" if result.failure else "done", result=result)
        if not alive:
            return JobState(state="lost")
        self._placed.setdefault(handle, known.gpu)
        progress = _progress(known.folder)
        if progress is not None:
            self.report(progress)
        return JobState(state="running", progress=progress)

    def _pick(self, job: Job) -> str | None:
        """The GPU that a job is bound to, else the one with the fewest jobs; None where there is nothing to choose."""
        if self._gpus is None:
            self._gpus = list_gpus()
        if job.resources.gpu or len(self._gpus) < 2:
            return job.resources.gpu
        used = list(self._placed.values())
        return min(self._gpus, key=used.count)


def _start(job: Job, folder: Path, gpu: str | None) -> Worker:
    environment = os.environ | {MARK: str(folder)}
    threads = job.resources.threads or int(str(job.measured.get("threads") or 0))
    if threads:
        environment |= dict.fromkeys(THREADS, str(threads))
    if gpu is not None:
        bound, visible = isolated(gpu)
        environment |= visible
        job = job.model_copy(update={"resources": job.resources.model_copy(update={"gpu": bound})})
    artifacts.write(str(folder), JOB, job.to_json().encode())
    artifacts.remove(str(folder), PROGRESS)
    with (folder / LOG).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "amla.executors.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    _children[child.pid] = child
    return Worker.of(child.pid)


def _wait(worker: Worker, seconds: float) -> None:
    """Until a worker has ended, or so long."""
    until = time.monotonic() + seconds
    while worker.alive and time.monotonic() < until:
        time.sleep(0.02)
        _reap()


def _reap() -> None:
    """Notice children that have ended, so that they do not stay as zombies."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            _children.pop(pid, None)


def _sweep(known: Handle, worker: Worker) -> None:
    """Kill what a worker has left behind: processes of its session that bear its mark, so that no stranger is hit.

    One that is only just beginning has no environment to be read yet, so it is asked again.
    """
    until = time.monotonic() + DYING
    while _kill_marked(known, worker) and time.monotonic() < until:
        time.sleep(0.02)


def _kill_marked(known: Handle, worker: Worker) -> bool:
    """Kill those that bear the mark. Whether there are others of which nobody can tell yet."""
    untold = False
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) != worker.pid or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
            if environment.get(MARK) == known.folder:
                process.kill()
            untold = untold or not environment
    return untold


def _worker(known: Handle) -> Worker | None:
    """Who works on a job: the holder of its folder, or the one that was started for it and has not come so far."""
    return holder(Path(known.folder)) or known.worker


def _progress(folder: str) -> Progress | None:
    content = artifacts.read(folder, PROGRESS)
    return Progress.from_json(content) if content else None


def _parsed(handle: str) -> Handle | None:
    """None for the handle of another executor."""
    try:
        return Handle.from_json(handle)
    except SpecError:
        return None

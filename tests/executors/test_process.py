"""What is special about processes: locks, GPUs, threads, folders."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from amla import artifacts
from amla.errors import ConfigError
from amla.executors.base import JobState
from amla.executors.folder import OWNER, Busy, Worker, claimed, holder
from amla.executors.gpus import isolated, list_gpus
from amla.executors.process import ProcessExecutor
from amla.executors.runner import run_job, stored_result
from amla.executors.worker import FAILED, STOPPED, TAKEN
from amla.spec.trial import Job, Resources
from amla.testing import tiny


def work(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amla.executors.worker", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def placed(folder: Path, job: Job) -> None:
    artifacts.write(str(folder), "job.json", job.to_json().encode())


def ended(executor: ProcessExecutor, handle: str) -> JobState:
    until = time.monotonic() + 20.0
    while (state := executor.poll([handle])[handle]).state == "running":
        assert time.monotonic() < until
        time.sleep(0.02)
    return state


# ----------------------------------------------------------------------------------------------------- one process a folder
def test_a_folder_is_held_by_one_process_until_it_lets_go(tmp_path: Path) -> None:
    with claimed(str(tmp_path)):
        assert holder(tmp_path) == Worker.of(os.getpid())
        with pytest.raises(Busy), claimed(f"file://{tmp_path}"):
            pass
        assert holder(tmp_path) == Worker.of(os.getpid())
    assert holder(tmp_path) is None
    with claimed(str(tmp_path)):
        pass


def test_the_dead_hold_nothing(tmp_path: Path) -> None:
    code = "import os, sys; from amla.executors.folder import claimed\nwith claimed(sys.argv[1]): os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / OWNER).exists()
    with claimed(str(tmp_path)):
        pass


def test_a_process_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    me = Worker.of(os.getpid())
    artifacts.write(str(tmp_path), OWNER, me.model_copy(update={"started": me.started - 60.0}).to_json().encode())
    assert holder(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": 1}'])
def test_a_note_that_was_cut_off_holds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / OWNER).write_bytes(content)
    assert holder(tmp_path) is None


RACER = """
import sys
from amla.executors.folder import Busy, claimed

print("ready", flush=True)
sys.stdin.readline()
try:
    with claimed(sys.argv[1]):
        print(1, flush=True)
        sys.stdin.readline()
except Busy:
    print(0, flush=True)
"""


def test_of_many_processes_one_gets_the_folder(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    racers = [subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path)], **pipes) for _ in range(5)]
    assert all(racer.stdout.readline() == "ready\n" for racer in racers)
    for racer in racers:
        racer.stdin.write("go\n")
    won = [int(racer.stdout.readline()) for racer in racers]
    for racer in racers:
        racer.communicate(timeout=30)
    assert sum(won) == 1


def test_a_folder_elsewhere_is_not_guarded() -> None:
    job = tiny.job("memory://guard/0000")
    with claimed(job.folder), claimed(job.folder):
        result = run_job(job)
    assert result == stored_result(job.folder, 0)
    assert stored_result(job.folder, 1) is None


# --------------------------------------------------------------------------------------------------------------- the worker
def test_a_worker_leaves_a_folder_alone_that_another_has(tmp_path: Path) -> None:
    placed(tmp_path, tiny.job(str(tmp_path)))
    with claimed(str(tmp_path)):
        assert work(tmp_path).returncode == TAKEN
    assert work(tmp_path).returncode == 0
    assert stored_result(str(tmp_path), 0)


def test_a_worker_says_in_one_line_what_a_user_can_mend(tmp_path: Path) -> None:
    ran = work(tmp_path)
    assert (ran.returncode, ran.stderr) == (FAILED, f"amla: there is no job.json in {tmp_path}\n")
    placed(tmp_path, tiny.job(str(tmp_path)).model_copy(update={"trainer": "abacus"}))
    ran = work(tmp_path)
    assert ran.returncode == FAILED
    assert ran.stderr.startswith("amla: no trainer is called 'abacus'")
    assert ran.stderr.count("\n") == 1


def test_a_worker_that_is_asked_to_stop_leaves_no_result(tmp_path: Path) -> None:
    placed(tmp_path, tiny.job(str(tmp_path), steps=1000, pause=0.02))
    process = subprocess.Popen([sys.executable, "-m", "amla.executors.worker", str(tmp_path)])
    until = time.monotonic() + 20.0
    while artifacts.read(str(tmp_path), tiny.STATE) is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == STOPPED
    assert stored_result(str(tmp_path), 0) is None
    assert holder(tmp_path) is None


def test_a_result_counts_only_for_its_attempt(tmp_path: Path) -> None:
    job = tiny.job(str(tmp_path))
    first = run_job(job)
    assert run_job(job) == first
    assert stored_result(job.folder, 0) == first
    assert stored_result(job.folder, 1) is None
    (tmp_path / "attempt.json").write_text("")
    assert stored_result(job.folder, 0) is None


# ------------------------------------------------------------------------------------------------------------- the executor
def test_a_folder_must_be_on_this_machine() -> None:
    with pytest.raises(ConfigError, match="needs a folder on this machine, not memory://x"):
        ProcessExecutor().submit(tiny.job("memory://x"))


def test_a_killed_worker_is_lost_and_leaves_no_zombie(tmp_path: Path) -> None:
    executor = ProcessExecutor(grace=1.0)
    handle = executor.submit(tiny.job(str(tmp_path), steps=1000, pause=0.02))
    pid = json.loads(handle)["worker"]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert ended(executor, handle).state == "lost"
    executor.poll([])
    assert not psutil.pid_exists(pid)


def test_a_worker_outlives_its_scheduler(tmp_path: Path) -> None:
    code = (
        "import os, sys; from amla.executors.process import ProcessExecutor; from amla.testing import tiny\n"
        "print(ProcessExecutor().submit(tiny.job(sys.argv[1], steps=30, pause=0.03))); sys.stdout.flush(); os._exit(9)"
    )
    handle = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()
    executor = ProcessExecutor()
    assert executor.poll([handle])[handle].state == "running"
    again = executor.submit(tiny.job(str(tmp_path), steps=30, pause=0.03))
    assert json.loads(again)["worker"] == json.loads(handle)["worker"]
    assert ended(executor, handle).state == "done"


def test_threads_are_set_before_any_library_is_loaded(tmp_path: Path) -> None:
    executor = ProcessExecutor(grace=1.0)
    job = tiny.job(str(tmp_path), steps=1000, pause=0.02)
    handle = executor.submit(job.model_copy(update={"resources": Resources(threads=3), "measured": {"threads": 5}}))
    worker = psutil.Process(json.loads(handle)["worker"]["pid"])
    deadline = time.monotonic() + 10.0
    while "OMP_NUM_THREADS" not in (environment := worker.environ()) and time.monotonic() < deadline:
        time.sleep(0.01)  # it still is a copy of this process, about to become a worker
    executor.cancel(handle)
    assert environment["OMP_NUM_THREADS"] == "3"


# ------------------------------------------------------------------------------------------------------------------- GPUs
@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-a)'\necho 'GPU 1: H100 (UUID: GPU-b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_are_those_that_the_driver_lists(two_gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_gpus() == ["cuda:0", "cuda:1"]
    assert isolated("cuda:1") == ("cuda:0", {"CUDA_VISIBLE_DEVICES": "1"})
    assert isolated("cpu") == ("cpu", {})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-c")
    assert list_gpus() == ["cuda:0", "cuda:1"]
    assert isolated("cuda:1") == ("cuda:0", {"CUDA_VISIBLE_DEVICES": "GPU-c"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert list_gpus() == []


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert list_gpus() == []


def test_each_job_sees_the_gpu_with_the_fewest_jobs(two_gpus: None, tmp_path: Path) -> None:
    executor = ProcessExecutor(grace=0.5)

    def submit(number: int, steps: int, gpu: str | None = None) -> str:
        job = tiny.job(str(tmp_path / str(number)), number=number, steps=steps, pause=0.02)
        return executor.submit(job.model_copy(update={"resources": Resources(gpu=gpu)}))

    long, short = submit(0, 1000), submit(1, 1)
    assert [json.loads(handle)["gpu"] for handle in (long, short)] == ["cuda:0", "cuda:1"]
    assert psutil.Process(json.loads(long)["worker"]["pid"]).environ()["CUDA_VISIBLE_DEVICES"] == "0"
    assert Job.from_json((tmp_path / "1" / "job.json").read_bytes()).resources.gpu == "cuda:0"
    ended(executor, short)
    third, bound = submit(2, 1), submit(3, 1, "cuda:0")
    assert [json.loads(handle)["gpu"] for handle in (third, bound)] == ["cuda:1", "cuda:0"]
    for handle in (long, third, bound):
        executor.cancel(handle)


def test_what_was_only_just_begun_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between fork and exec a process has no environment that could be read."""
    looked: set[int] = set()
    real = psutil.Process.environ

    def environ(process: psutil.Process) -> dict[str, str]:
        first = process.pid not in looked
        looked.add(process.pid)
        return {} if first else real(process)

    executor = ProcessExecutor()
    handle = executor.submit(tiny.job(str(tmp_path), die=1, child=True))
    monkeypatch.setattr(psutil.Process, "environ", environ)
    until = time.monotonic() + 20.0
    while executor.poll([handle])[handle].state == "running" and time.monotonic() < until:
        time.sleep(0.05)
    child = artifacts.read_json(str(tmp_path), "child.json")
    assert isinstance(child, int)
    assert child in looked
    time.sleep(0.2)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

"""Ctrl-C, ``stop``, ``kill -9``, and ``resume``: nothing is lost, and the end is the one of an undisturbed run."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file
from typed import PINNED, TINY, call, command, environment

#: Some seconds of training, so that there is something to interrupt.
LONG = (
    "digits", "--steps", "60", "--search-steps", "30", "--iterations", "2", "--width", "6", "--name", "long", *PINNED
)  # fmt: skip


def begin(place: Path, *more: str) -> "subprocess.Popen[str]":
    words = command("search", *LONG, "--out", "run", *more)
    return subprocess.Popen(
        words,
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def resume(place: Path) -> dict:
    return json.loads(call("resume", "long", "--json", at=place).stdout)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict]:
    place = tmp_path_factory.mktemp("undisturbed")
    return place, json.loads(call("search", *LONG, "--out", "run", "--json", at=place).stdout)


def same_end(place: Path, found: dict, undisturbed: tuple[Path, dict]) -> None:
    other, document = undisturbed
    assert found["state"] == "done"
    assert found["best"] == document["best"]
    assert found["test"] == document["test"]
    assert found["trials"] == document["trials"]
    mine, its = (load_file(folder / "run" / "model.safetensors") for folder in (place, other))
    assert all(np.array_equal(mine[name], its[name]) for name in its)


def test_ctrl_c_and_resume(tmp_path, undisturbed):
    process = begin(tmp_path)
    wait_for(tmp_path / "run" / "trials" / "0001", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "amla resume" in out + err
    (listed,) = json.loads(call("experiments", "list", "--json", at=tmp_path).stdout)
    assert listed["state"] == "stopped"
    same_end(tmp_path, resume(tmp_path), undisturbed)


def test_stop_from_another_terminal(tmp_path, undisturbed):
    process = begin(tmp_path)
    wait_for(tmp_path / "run" / "trials" / "0000", process)
    said = json.loads(call("stop", "long", "--json", at=tmp_path).stdout)
    assert said["state"] == "stopped"
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    same_end(tmp_path, resume(tmp_path), undisturbed)


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_kill_and_resume(tmp_path, undisturbed, executor):
    """Killed at seeded random moments, workers too; then it goes on to the same end."""
    moments = random.Random(executor)
    process = begin(tmp_path, "--executor", executor)
    wait_for(tmp_path / "run" / "trials" / "0000", process)
    for _ in range(2):
        time.sleep(moments.uniform(0.0, 3.0))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.communicate()
        if moments.random() < 0.5:
            for child in children:
                child.kill()
        process = subprocess.Popen(
            command("resume", "long", "--quiet"),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    process.communicate(timeout=120)
    same_end(tmp_path, resume(tmp_path), undisturbed)


def test_resuming_what_is_done_changes_nothing(finished, amla):
    again = json.loads(amla("resume", "tiny", "--store", finished.store, "--json").stdout)
    assert again == finished.document


def test_ctrl_c_before_anything_runs(tmp_path):
    process = subprocess.Popen(
        command("search", *TINY),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # a job in the background ignores it
    )
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err

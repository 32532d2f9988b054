"""``amla`` in a process of its own, as a user types it."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fork_server import ForkServer

#: Runs a command, as the fixture ``amla`` does.
Amla = Callable[..., subprocess.CompletedProcess[str]]
#: What is measured otherwise, and may come out otherwise each time: with these, the seed alone decides.
PINNED = ("--threads", "1", "--precision", "float32")
#: A whole search on digits in a few seconds.
TINY = (
    "digits", "--steps", "12", "--search-steps", "4", "--iterations", "2", "--width", "6", "--limit", "300", *PINNED
)  # fmt: skip


def command(*words: object) -> list[str]:
    return [str(Path(sys.executable).with_name("amla")), *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    """That of the tests, without what would lead a run elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith("AMLA_")} | more


@dataclass(frozen=True)
class Run:
    """A finished search: where it ran, its folder, and what ``--json`` printed."""

    place: Path
    document: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.place / "run"

    @property
    def store(self) -> str:
        return f"sqlite:///{self.place / 'amla.db'}"


@functools.cache
def _server() -> ForkServer:
    return ForkServer()


def call(*words: object, at: Path, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a process forked from one that has imported what it needs; check its exit code."""
    typed = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        left = _server().run(typed, at, environment(**more), out, err)
        done = subprocess.CompletedProcess(["amla", *typed], left, out.read_text(), err.read_text())
    assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    return done

"""``amla`` in a process of its own, as a user types it."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def call(*words: object, at: Path, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*words), cwd=at, env=environment(**more), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    return done

"""The command line: every test runs ``amla`` in a process of its own."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typed import TINY, Amla, Run, call


@pytest.fixture
def amla(tmp_path: Path) -> Amla:
    """Run a command in an empty folder and check its exit code (``code=``)."""

    def amla(*words: object, at: Path = tmp_path, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        return call(*words, at=at, code=code, **more)

    return amla


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One search that many tests look at; none changes it."""
    place = tmp_path_factory.mktemp("finished")
    store = f"sqlite:///{place / 'amla.db'}"
    done = call("search", *TINY, "--name", "tiny", "--out", "run", "--store", store, "--json", at=place)
    return Run(place, json.loads(done.stdout))


@pytest.fixture
def complaint(amla: Amla) -> Callable[..., str]:
    """Run a command that must fail as bad input does: exit code 2, one line, no traceback, nothing on standard output."""

    def complaint(*words: object, code: int = 2, **more: Any) -> str:
        done = amla(*words, code=code, **more)
        lines = done.stderr.strip().splitlines()
        assert done.stdout == ""
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("amla: ")
        assert "Traceback" not in done.stderr
        return lines[0]

    return complaint

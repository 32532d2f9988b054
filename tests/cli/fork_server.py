"""Processes that have imported what ``amla`` needs: each command still runs in one of its own, but need not import anew.

Importing takes seconds, and most commands under test take less. Run as a script, it reads a command a line as JSON, forks,
and answers with the exit code.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

#: What commands import sooner or later. None of them may start a thread.
HEAVY = (
    "amla.api",
    "amla.cli.app",
    "amla.trainers.torch.trainer",
    "amla.exporters.onnx",
    "onnxruntime",
    "sklearn.datasets",
)


class ForkServer:
    """The process that forks. It ends with the process that started it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, words: list[str], at: Path, environment: dict[str, str], out: Path, err: Path) -> int:
        """The exit code of ``amla`` with these words; what it prints goes to two files."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"words": words, "at": str(at), "environment": environment, "out": str(out), "err": str(err)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


def serve() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            become(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def become(asked: dict[str, Any]) -> None:
    """Be the command, and never come back."""
    os.chdir(asked["at"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = ["amla", *asked["words"]]
    from amla.cli import main

    try:
        main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001  # as the interpreter does
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()

"""The GPUs of this machine, as the driver lists them; no ML library is imported for it."""

from __future__ import annotations

import os
import shutil
import subprocess

VISIBLE = "CUDA_VISIBLE_DEVICES"


def list_gpus() -> list[str]:
    """``cuda:0``, ``cuda:1``, ...: the GPUs that this process may use. Nothing where there is no driver."""
    visible = _visible()
    count = len(visible) if visible is not None else _installed()
    return [f"cuda:{index}" for index in range(count)]


def isolated(gpu: str) -> tuple[str, dict[str, str]]:
    """(name of a GPU in a process that sees no other, environment of such a process). A device that is not CUDA's keeps
    its name and needs nothing."""
    kind, _, index = gpu.partition(":")
    if kind != "cuda" or not index.isdecimal():
        return gpu, {}
    visible = _visible()
    if visible is None:
        return "cuda:0", {VISIBLE: index}
    if int(index) >= len(visible):
        return gpu, {}
    return "cuda:0", {VISIBLE: visible[int(index)]}


def _visible() -> list[str] | None:
    """What the environment allows; None where it allows everything."""
    names = os.environ.get(VISIBLE)
    return None if names is None else [name for name in names.split(",") if name.strip()]


def _installed() -> int:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    try:
        told = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in told.stdout.splitlines())

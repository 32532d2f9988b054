"""Where arithmetic is done, and in which numbers."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

import torch

#: Parameters of glibc's malloc (mallopt(3)), and what its own rules come to in a process that uses large blocks.
_TRIM_THRESHOLD, _MMAP_MAX, _MMAP_THRESHOLD = -1, -4, -3
_USUAL = {_TRIM_THRESHOLD: 64 * 2**20, _MMAP_THRESHOLD: 32 * 2**20, _MMAP_MAX: 65536}
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _MMAP_MAX: 0}


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """For people: the GPU's name, or the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


@contextlib.contextmanager
def memory_kept() -> Iterator[None]:
    """Memory that tensors let go of stays with the process meanwhile, to be used again.

    By default glibc gives every large block back to the system at once, which clears it page by page when it is next asked
    for: a third of a training step on a CPU. Other systems are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    for parameter, value in _KEPT.items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)

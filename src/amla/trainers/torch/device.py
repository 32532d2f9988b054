"""Where arithmetic is done, and in which numbers."""

from __future__ import annotations

import torch

from amla.spec.trial import Job


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """For people: the GPU's name, or the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def dtype_of(job: Job) -> str:
    """float32 or bfloat16: the training's own word, else what was measured for the experiment."""
    precision = job.spec.training.precision
    return precision if precision != "auto" else str(job.measured.get("dtype", "float32"))

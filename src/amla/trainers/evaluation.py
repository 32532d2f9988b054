"""What trainers on images share besides the loop: in which numbers a job computes, and how a stored network is measured."""

from __future__ import annotations

import time
from collections.abc import Callable

from amla import artifacts
from amla.errors import TrialFailure
from amla.spec.costs import costs
from amla.spec.data import DatasetInfo, Split
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.trial import Cost, Job, Result
from amla.trainers.checkpoint import MODEL
from amla.trainers.surgery import Arrays


def dtype_of(job: Job) -> str:
    """float32 or bfloat16: the training's own word, else what was measured for the experiment."""
    precision = job.spec.training.precision
    return precision if precision != "auto" else str(job.measured.get("dtype", "float32"))


def evaluation(
    job: Job, info: DatasetInfo, split: Split, measured: Callable[[Graph, Arrays], tuple[float, float]], device: str
) -> Result:
    """``Trainer.evaluate``. ``measured`` gives (accuracy in [0, 1], mean cross-entropy) on the split of a network with these
    weights. Errors: ``TrialFailure`` where none is stored."""
    folder = job.parent_folder or job.folder
    content = artifacts.read(folder, MODEL)
    if content is None:
        raise TrialFailure("data", f"there is no {MODEL} in {folder}")
    began = time.perf_counter()
    graph = lower(job.spec.architecture, info.input_shape, info.num_classes).inference()
    accuracy, loss = measured(graph, artifacts.unpack(content))
    seconds = time.perf_counter() - began
    found = costs(graph)
    return Result(
        metrics={split: {"accuracy": accuracy, "loss": loss}},
        parameters=found.parameters,
        flops=found.flops,
        size_mb=found.size_mb,
        cost=Cost(seconds=seconds, evaluate_seconds=seconds, device=device),
    )

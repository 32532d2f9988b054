"""The procedure ``train``: a network trained for its budget, and what every procedure with a training leaves behind."""

from __future__ import annotations

import math
import time

import torch

from amla import artifacts
from amla.datasets.base import Dataset
from amla.errors import TrialFailure
from amla.spec.costs import costs
from amla.spec.graph import weights
from amla.spec.lower import lower
from amla.spec.trial import Cost, Job, Result
from amla.trainers.base import Reporter
from amla.trainers.torch.data import Batches
from amla.trainers.torch.device import device_name, dtype_of
from amla.trainers.torch.evaluation import evaluated, measured_on
from amla.trainers.torch.loop import Loop
from amla.trainers.torch.state import State, begin, save

MODEL = "model.safetensors"


def train(job: Job, data: Dataset, device: torch.device, report: Reporter) -> Result:
    """Errors: ``TrialFailure``."""
    graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes)
    batches = Batches(data, job.spec.training.batch_size, job.spec.training.augmentation, job.seed, device)
    state = begin(job, graph, batches, device)
    Loop(job, data, state, batches, dtype_of(job), report).run()
    return ended(job, data, state, device)


def ended(job: Job, data: Dataset, state: State, device: torch.device) -> Result:
    """The weights and the state are left behind; the result, with the network measured on the validation split."""
    counters = state.counters
    graph = state.module.graph
    module = evaluated(state)
    began = time.perf_counter()
    accuracy, loss = measured_on(module, data, "valid", device)
    evaluate_seconds = counters.evaluate_seconds + time.perf_counter() - began
    if not math.isfinite(loss):
        raise TrialFailure("nan", f"the loss on the validation split is {loss} after step {counters.step}")
    names = {weight.name for weight in weights(graph.inference())}
    kept = {k: v.detach().cpu().float().numpy() for k, v in module.state_dict().items() if k in names}
    artifacts.write(job.folder, MODEL, artifacts.pack(kept))
    counters.finished = True
    save(state, job.folder)
    found = costs(graph)
    size = min(job.spec.training.batch_size, data.info.sizes["train"])
    return Result(
        metrics={"valid": {"accuracy": accuracy, "loss": loss}},
        statistics=state.statistics(),
        snapshots=tuple(counters.snapshots),
        curve=tuple(counters.curve),
        parameters=found.parameters,
        flops=found.flops,
        size_mb=found.size_mb,
        position=counters.position,
        cost=Cost(
            seconds=counters.seconds + evaluate_seconds,
            train_seconds=counters.seconds,
            evaluate_seconds=evaluate_seconds,
            steps=counters.step,
            images=counters.step * size,
            device=device_name(device),
        ),
        artifacts={"model": MODEL, "state": "state.safetensors"},
    )

"""What the loss would rise by if a branch were switched off: looked at once, when a training has ended.

The images are of the training split, not augmented, so that the validation split keeps its word for the networks; norms go
by the statistics of the batch, as they will while the training goes on without the branch. The same images are seen with
and without each branch, so that a few of them are enough.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

from amla.datasets.base import Dataset
from amla.spec.training import Augmentation
from amla.spec.trial import Cost, Job, Result, Statistics
from amla.trainers.torch.data import Batches
from amla.trainers.torch.evaluation import evaluated
from amla.trainers.torch.module import GraphModule, by_batch
from amla.trainers.torch.state import State

NAME = "switched_off"
#: Images that are looked at, once for every branch. With 10 epochs of 20,000 images, 24 branches and 5 looks that is a
#: twentieth of the training's own passes.
IMAGES = 256


def with_switched_off(result: Result, job: Job, data: Dataset, state: State) -> Result:
    """The result with ``switched_off`` of every branch, where the job asks for it. What it takes counts as evaluation."""
    if NAME not in job.spec.instruments:
        return result
    began = time.perf_counter()
    rises = switched_off(job, data, state)
    statistics = {block: {**result.statistics.get(block, {}), **rises.get(block, {})} for block in result.statistics}
    return result.model_copy(
        update={"statistics": rises | statistics, "cost": _longer(result.cost, time.perf_counter() - began)}
    )


@torch.no_grad()
def switched_off(job: Job, data: Dataset, state: State) -> Statistics:
    """Cross-entropy without a branch minus that with it, in nats, by the branch's name."""
    device = next(state.module.parameters()).device
    module = _copy(evaluated(state), device)
    images, labels = next(Batches(data, IMAGES, Augmentation(), job.seed, device)(0))

    def loss(*off: str) -> float:
        module.close(off)
        return float(F.cross_entropy(module(images)[0].float(), labels))

    whole = loss()
    branches = [block for block in module.graph.blocks if block.kind != "skip"]
    return {block.name: {NAME: loss(block.output) - whole} for block in branches}


def _copy(trained: GraphModule, device: torch.device) -> GraphModule:
    """The network once more: norms that go by the batch move their running statistics."""
    module = GraphModule(trained.graph)
    module.load_state_dict(trained.state_dict())
    return by_batch(module.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]


def _longer(cost: Cost, seconds: float) -> Cost:
    return cost.model_copy(
        update={"seconds": cost.seconds + seconds, "evaluate_seconds": cost.evaluate_seconds + seconds}
    )

"""The loss of a network with branches switched off, see ``amla.trainers.switched``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from amla.datasets.base import Dataset
from amla.spec.training import Augmentation
from amla.spec.trial import Job
from amla.trainers.switched import IMAGES, Loss
from amla.trainers.torch.data import Batches
from amla.trainers.torch.evaluation import evaluated
from amla.trainers.torch.module import GraphModule, by_batch
from amla.trainers.torch.state import State


def loss_without(job: Job, data: Dataset, state: State) -> Loss:
    """Of the network that is evaluated, on images of the training split."""
    device = next(state.module.parameters()).device
    module = _copy(evaluated(state), device)
    images, labels = next(Batches(data, IMAGES, Augmentation(), job.seed, device)(0))

    @torch.no_grad()
    def loss(off: Sequence[str]) -> float:
        module.close(off)
        return float(F.cross_entropy(module(images)[0].float(), labels))

    return loss


def _copy(trained: GraphModule, device: torch.device) -> GraphModule:
    """The network once more: norms that go by the batch move their running statistics."""
    module = GraphModule(trained.graph)
    module.load_state_dict(trained.state_dict())
    return by_batch(module.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]

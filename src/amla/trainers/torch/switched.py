"""The losses of a network with branches switched off, see ``amla.trainers.switched``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from amla.datasets.base import Dataset
from amla.spec.training import Augmentation
from amla.spec.trial import Job
from amla.trainers.switched import IMAGES
from amla.trainers.torch.data import Batches
from amla.trainers.torch.evaluation import copied, evaluated
from amla.trainers.torch.module import by_batch
from amla.trainers.torch.state import State


@torch.no_grad()
def losses_without(job: Job, data: Dataset, state: State, outputs: Sequence[str]) -> dict[str, float]:
    """Of the network that is evaluated, on images of the training split."""
    network = evaluated(state)
    # a copy: norms that go by the batch move their running statistics
    module = by_batch(copied(network, network.state_dict()))
    device = next(module.parameters()).device
    images, labels = next(Batches(data, IMAGES, Augmentation(), job.seed, device)(0))
    return {name: float(F.cross_entropy(out.float(), labels)) for name, out in module.logits_without(images, outputs)}

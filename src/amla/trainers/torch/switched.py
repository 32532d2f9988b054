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
from amla.trainers.torch.evaluation import evaluated
from amla.trainers.torch.module import GraphModule, by_batch
from amla.trainers.torch.state import State


@torch.no_grad()
def losses_without(job: Job, data: Dataset, state: State, outputs: Sequence[str]) -> dict[str, float]:
    """Of the network that is evaluated, on images of the training split."""
    device = next(state.module.parameters()).device
    module = _copy(evaluated(state), state.module, device)
    images, labels = next(Batches(data, IMAGES, Augmentation(), job.seed, device)(0))
    return {name: float(F.cross_entropy(out.float(), labels)) for name, out in module.logits_without(images, outputs)}


def _copy(trained: GraphModule, planned: GraphModule, device: torch.device) -> GraphModule:
    """The network once more, computed by the same plan: norms that go by the batch move their running statistics."""
    module = GraphModule(trained.graph)
    module.load_state_dict(trained.state_dict())
    module.join(planned.joints)
    module.close(planned.off)
    return by_batch(module.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]

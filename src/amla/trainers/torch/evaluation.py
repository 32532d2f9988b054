"""Reading a network's accuracy and loss off a split."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from amla.datasets.base import Dataset
from amla.spec.data import Split
from amla.trainers.torch.data import evaluation_batches
from amla.trainers.torch.module import GraphModule
from amla.trainers.torch.state import State


def evaluated(state: State) -> GraphModule:
    """The network that is evaluated: the average of weights where one is kept."""
    if state.average is None:
        return state.module
    return copied(state.module, state.average.values)


def copied(module: GraphModule, values: Mapping[str, Tensor]) -> GraphModule:
    """The network once more, with these weights and no listeners: the same gates, nodes off, plan and device."""
    copy = GraphModule(module.graph)
    copy.load_state_dict(values)
    copy.gates = module.gates
    copy.close(module.off)
    copy.join(module.joints)
    return copy.to(  # type: ignore[no-any-return, call-overload]
        device=next(module.parameters()).device, memory_format=torch.channels_last
    )


@torch.no_grad()
def measured_on(module: GraphModule, data: Dataset, split: Split, device: torch.device) -> tuple[float, float]:
    """(accuracy in [0, 1], mean cross-entropy) on a split, in float32."""
    module.taps = {}
    training = module.training
    module.eval()
    right = loss = count = 0.0
    for images, labels in evaluation_batches(data, split, device):
        logits = module(images)[0].float()
        right += float((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        count += len(labels)
    module.train(training)
    return right / max(count, 1.0), loss / max(count, 1.0)

"""The norms of a grown layer, set in torch. The rest of surgery belongs to no library: ``amla.trainers.surgery``."""

from __future__ import annotations

import torch
from torch import Tensor

from amla.spec.surgery import Plan
from amla.trainers.torch.module import GraphModule, Norm, capture


@torch.no_grad()
def calibrate(plan: Plan, module: GraphModule, images: Tensor) -> None:
    """Set the norms of a new layer so that they give back what goes into them, on a batch of training images.

    In the plan's order: a norm is set when all before it are.
    """
    module.eval()
    for name in plan.calibrate:
        norm = module.get_submodule(name)
        assert isinstance(norm, Norm)
        source = module.graph.node(name).inputs[0]
        seen: dict[str, Tensor] = {}
        module.taps = capture([source], seen)
        module(images)
        module.taps = {}
        variance, mean = torch.var_mean(seen[source].float(), (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        assert norm.weight is not None
        norm.weight.copy_(torch.sqrt(variance + norm.epsilon))
        norm.bias.copy_(mean)

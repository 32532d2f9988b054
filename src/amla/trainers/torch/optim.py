"""Optimizers and averages of weights, with their state by the names of the weights.

Weight decay acts on the weights of convolutions and dense layers; norms, scalars and biases are left alone, as is usual
since arXiv 1706.05350 and 1812.01187 (section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from amla.spec.training import SGD, AdamW, Clip, RMSprop
from amla.trainers.surgery import STEP

AnyOptimizer = SGD | AdamW | RMSprop


def make_optimizer(how: AnyOptimizer, module: nn.Module) -> torch.optim.Optimizer:
    """torch's own optimizer, with decayed and undecayed weights in two groups. The rate is set at every step.

    On a CPU its fused or grouped kernels: a network of many small branches has hundreds of weights, and going through
    them one by one takes several times as long.
    """
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": how.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    fused = True if all(p.device.type == "cpu" for p in module.parameters()) else None
    match how:
        case SGD():
            nesterov = how.nesterov and how.momentum > 0
            return torch.optim.SGD(groups, lr=0.1, momentum=how.momentum, nesterov=nesterov, fused=fused)
        case AdamW():
            return torch.optim.AdamW(groups, lr=0.1, betas=(how.beta1, how.beta2), eps=how.epsilon, fused=fused)
        case RMSprop():
            return torch.optim.RMSprop(
                groups, lr=0.1, alpha=how.decay, momentum=how.momentum, eps=how.epsilon, foreach=True
            )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip(parameters: list[nn.Parameter], how: Clip) -> None:
    """Gradients limited in place."""
    if how.kind == "norm":
        nn.utils.clip_grad_norm_(parameters, how.value)
    else:
        nn.utils.clip_grad_value_(parameters, how.value)


def slots(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """What the optimizer remembers, as ``WEIGHT:SLOT`` -> tensor (``stage1/.../conv.weight:momentum_buffer``)."""
    found: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                found[f"{name}:{slot}"] = torch.as_tensor(value)
    return found


@torch.no_grad()
def load_slots(optimizer: torch.optim.Optimizer, module: nn.Module, remembered: Mapping[str, Tensor]) -> None:
    """Put back what ``slots`` gave. A weight of which nothing is remembered begins anew, and so does one of which another
    kind of optimizer remembers something."""
    of_weight: dict[str, dict[str, Tensor]] = {}
    for key, value in remembered.items():
        name, slot = key.rsplit(":", 1)
        of_weight.setdefault(name, {})[slot] = value
    expected = _slot_names(optimizer)
    for name, parameter in module.named_parameters():
        found = of_weight.get(name, {})
        if set(found) == expected:
            # in the weight's own memory layout: the fused kernels go by memory, not by index
            optimizer.state[parameter] = {
                slot: value.reshape(()).clone() if slot == STEP else torch.empty_like(parameter).copy_(value)
                for slot, value in found.items()
            }
        elif of_weight and expected == {"momentum_buffer"}:
            # the fused kernel takes buffers of all weights or of none; zeros are what it would begin with
            optimizer.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}


def _slot_names(optimizer: torch.optim.Optimizer) -> set[str]:
    """What an optimizer remembers of each weight."""
    momentum = {"momentum_buffer"} if optimizer.defaults.get("momentum") else set()
    match optimizer:
        case torch.optim.SGD():
            return momentum
        case torch.optim.RMSprop():
            return {"step", "square_avg"} | momentum
        case _:
            return {"step", "exp_avg", "exp_avg_sq"}


class Average:
    """An exponential moving average of all weights and running statistics (Polyak). It is what is evaluated."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step in. Early on the average is shorter, so that it does not remember the initial weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = module.state_dict()
        torch._foreach_lerp_(list(self.values.values()), [current[name] for name in self.values], 1.0 - decay)

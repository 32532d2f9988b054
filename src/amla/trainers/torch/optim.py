"""Optimizers and averages of weights, with their state by the names of the weights.

Weight decay acts on the weights of convolutions and dense layers; norms, scalars and biases are left alone, as is usual
since arXiv 1706.05350 and 1812.01187 (section 3.1).

The steps are torch's own, by its functional interface. Its classes would do the same, but the first of them that is made
imports torch._dynamo, which takes longer than importing torch does: seconds in every process that trains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from amla.spec.training import SGD, AdamW, Clip, RMSprop
from amla.trainers.surgery import STEP

AnyOptimizer = SGD | AdamW | RMSprop


class Optimizer:
    """One optimizer over a network's weights. ``rate`` is set before every step.

    On a CPU by fused or grouped kernels: a network of many small branches has hundreds of weights, and going through them
    one by one takes several times as long. ``decoupled``: whether Adam's decay is (arXiv 1711.05101), or is added to the
    gradient.
    """

    def __init__(
        self,
        how: AnyOptimizer,
        decayed: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter] = (),
        *,
        decoupled: bool = True,
    ) -> None:
        self.how, self.decoupled = how, decoupled
        self.groups = ((tuple(decayed), how.weight_decay), (tuple(others), 0.0))
        self.rate = 0.1
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self.fused = True if all(p.device.type == "cpu" for p in (*decayed, *others)) else None

    @torch.no_grad()
    def step(self) -> None:
        """Move all weights that have a gradient."""
        for weights, decay in self.groups:
            moved = [weight for weight in weights if weight.grad is not None]
            if moved:
                self._move(moved, [weight.grad for weight in moved if weight.grad is not None], decay)

    def zero_grad(self) -> None:
        for weights, _ in self.groups:
            for weight in weights:
                weight.grad = None

    def _move(self, moved: list[nn.Parameter], gradients: list[Tensor], decay: float) -> None:
        how, rate, weights = self.how, self.rate, list[Tensor](moved)
        slots = {slot: [self._remembered(weight)[slot] for weight in moved] for slot in slot_names(how)}
        match how:
            case SGD():
                sgd(
                    weights,
                    gradients,
                    [*slots["momentum_buffer"]] if how.momentum else [None] * len(moved),
                    fused=self.fused,
                    lr=rate,
                    weight_decay=decay,
                    momentum=how.momentum,
                    nesterov=how.nesterov and how.momentum > 0,
                    dampening=0.0,
                    maximize=False,
                )
            case AdamW():
                adam(
                    weights,
                    gradients,
                    slots["exp_avg"],
                    slots["exp_avg_sq"],
                    [],
                    slots[STEP],
                    fused=self.fused,
                    decoupled_weight_decay=self.decoupled,
                    lr=rate,
                    weight_decay=decay,
                    beta1=how.beta1,
                    beta2=how.beta2,
                    eps=how.epsilon,
                    amsgrad=False,
                    maximize=False,
                )
            case RMSprop():
                rmsprop(
                    weights,
                    gradients,
                    slots["square_avg"],
                    [],
                    slots.get("momentum_buffer", []),
                    slots[STEP],
                    foreach=True,
                    lr=rate,
                    weight_decay=decay,
                    alpha=how.decay,
                    eps=how.epsilon,
                    momentum=how.momentum,
                    centered=False,
                )

    def _remembered(self, weight: nn.Parameter) -> dict[str, Tensor]:
        """Zeros, at first."""
        if weight not in self.state:
            self.state[weight] = {slot: _zeros(weight, slot) for slot in slot_names(self.how)}
        return self.state[weight]


def slot_names(how: AnyOptimizer) -> tuple[str, ...]:
    """What an optimizer remembers of each weight, as torch calls it."""
    momentum = ("momentum_buffer",) if not isinstance(how, AdamW) and how.momentum else ()
    match how:
        case SGD():
            return momentum
        case AdamW():
            return (STEP, "exp_avg", "exp_avg_sq")
        case RMSprop():
            return (STEP, "square_avg", *momentum)


def _zeros(weight: nn.Parameter, slot: str) -> Tensor:
    return torch.zeros(()) if slot == STEP else torch.zeros_like(weight)


def make_optimizer(how: AnyOptimizer, module: nn.Module) -> Optimizer:
    """The optimizer of a network, with the weights that decay and those that do not."""
    parameters = list(module.parameters())
    return Optimizer(how, [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1])


def clip(parameters: list[nn.Parameter], how: Clip) -> None:
    """Gradients limited in place."""
    if how.kind == "norm":
        nn.utils.clip_grad_norm_(parameters, how.value)
    else:
        nn.utils.clip_grad_value_(parameters, how.value)


def slots(optimizer: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """What the optimizer remembers, as ``WEIGHT:SLOT`` -> tensor (``stage1/.../conv.weight:momentum_buffer``)."""
    return {
        f"{name}:{slot}": value
        for name, parameter in module.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


@torch.no_grad()
def load_slots(optimizer: Optimizer, module: nn.Module, remembered: Mapping[str, Tensor]) -> None:
    """Put back what ``slots`` gave. A weight of which nothing is remembered begins anew, and so does one of which another
    kind of optimizer remembers something."""
    of_weight: dict[str, dict[str, Tensor]] = {}
    for key, value in remembered.items():
        name, slot = key.rsplit(":", 1)
        of_weight.setdefault(name, {})[slot] = value
    for name, parameter in module.named_parameters():
        found = of_weight.get(name, {})
        optimizer.state.pop(parameter, None)
        if set(found) == set(slot_names(optimizer.how)):
            # in the weight's own memory layout: the fused kernels go by memory, not by index
            optimizer.state[parameter] = {
                slot: value.reshape(()).clone() if slot == STEP else torch.empty_like(parameter).copy_(value)
                for slot, value in found.items()
            }


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

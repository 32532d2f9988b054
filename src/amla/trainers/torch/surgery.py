"""A surgery plan, carried out on torch tensors: weights, what the optimizer remembers of them, and their average."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from amla.spec.surgery import Plan, TensorPlan
from amla.trainers.torch.module import GraphModule, Norm, capture
from amla.trainers.torch.optim import STEP


def operate(plan: Plan, parent: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The child's weights: ``parent``'s where the plan says so, ``fresh`` ones (those of a new network) elsewhere."""
    child: dict[str, Tensor] = {}
    for step in plan.tensors:
        new = fresh[step.name]
        if step.how == "copy":
            child[step.name] = _copied(step, parent[step.name], new)
        elif step.how == "identity":
            child[step.name] = _identity(step, new)
        else:
            child[step.name] = new.clone()
    return child


def operate_slots(plan: Plan, slots: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the optimizer remembers of the child's weights: nothing (zero) of what is new."""
    child: dict[str, Tensor] = {}
    by_weight: dict[str, list[str]] = {}
    for key in slots:
        by_weight.setdefault(key.rsplit(":", 1)[0], []).append(key)
    for step in plan.tensors:
        for key in by_weight.get(step.name, ()):
            if step.how != "copy":
                continue
            if key.endswith(f":{STEP}"):
                child[key] = slots[key].clone()
            else:
                child[key] = _copied(step, slots[key], torch.zeros_like(fresh[step.name]))
    return child


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


def _copied(step: TensorPlan, old: Tensor, new: Tensor) -> Tensor:
    """Channels that both have, from the parent; an input channel that is new is zero, an output channel that is new is as
    in ``new``."""
    if step.outputs is None and step.inputs is None:
        return old.clone()
    value = new.clone()
    rows = _pairs(step.outputs, new.shape[0])
    if new.ndim < 2:
        value[rows[0]] = old[rows[1]]
        return value
    columns = _pairs(step.inputs, new.shape[1])
    block = torch.zeros((len(rows[0]), *new.shape[1:]), dtype=old.dtype, device=old.device)
    block[:, columns[0]] = old[rows[1]][:, columns[1]]
    value[rows[0]] = block
    return value


def _pairs(indices: tuple[int, ...] | None, count: int) -> tuple[Tensor, Tensor]:
    """(places in the child, places in the parent) of what both have."""
    if indices is None:
        everything = torch.arange(count)
        return everything, everything
    both = [(child, parent) for child, parent in enumerate(indices) if parent >= 0]
    return torch.tensor([c for c, _ in both], dtype=torch.long), torch.tensor([p for _, p in both], dtype=torch.long)


def _identity(step: TensorPlan, new: Tensor) -> Tensor:
    assert step.inputs is not None  # an identity always says which input passes
    value = torch.zeros_like(new)
    middle = (new.shape[2] - 1) // 2
    value[torch.arange(new.shape[0]), torch.tensor(step.inputs), middle, middle] = 1.0
    return value

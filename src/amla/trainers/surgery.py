"""A surgery plan, carried out on numpy arrays: weights, what an optimizer remembers of them, and their average.

Arrays are in the layout of ``spec.graph.weights``, whatever library trains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from amla.spec.surgery import Plan, TensorPlan

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

#: The one slot of an optimizer that is a count of steps and not shaped like its weight.
STEP = "step"


def operate(plan: Plan, parent: Arrays, fresh: Arrays) -> dict[str, Array]:
    """The child's weights: ``parent``'s where the plan says so, ``fresh`` ones (those of a new network) elsewhere."""
    child: dict[str, Array] = {}
    for step in plan.tensors:
        new = fresh[step.name]
        if step.how == "copy":
            child[step.name] = _copied(step, parent[step.name], new)
        elif step.how == "identity":
            child[step.name] = _identity(step, new)
        else:
            child[step.name] = new.copy()
    return child


def operate_slots(plan: Plan, slots: Arrays, fresh: Arrays) -> dict[str, Array]:
    """What the optimizer remembers of the child's weights: nothing (zero) of what is new."""
    child: dict[str, Array] = {}
    by_weight: dict[str, list[str]] = {}
    for key in slots:
        by_weight.setdefault(key.rsplit(":", 1)[0], []).append(key)
    for step in plan.tensors:
        for key in by_weight.get(step.name, ()):
            if step.how != "copy":
                continue
            if key.endswith(f":{STEP}"):
                child[key] = slots[key].copy()
            else:
                child[key] = _copied(step, slots[key], np.zeros_like(fresh[step.name]))
    return child


def operate_average(plan: Plan, average: Arrays, current: Arrays) -> dict[str, Array]:
    """The average of the child's weights: the parent's where a weight was copied, the weight as it is now elsewhere."""
    averaged = operate(plan, average, current)
    copied = {step.name for step in plan.tensors if step.how == "copy"}
    return averaged | {name: current[name] for name in averaged if name not in copied}


def _copied(step: TensorPlan, old: Array, new: Array) -> Array:
    """Channels that both have, from the parent; an input channel that is new is zero, an output channel that is new is as
    in ``new``."""
    if step.outputs is None and step.inputs is None:
        return old.copy()
    value = new.copy()
    rows = _pairs(step.outputs, new.shape[0])
    if new.ndim < 2:
        value[rows[0]] = old[rows[1]]
        return value
    columns = _pairs(step.inputs, new.shape[1])
    block = np.zeros((len(rows[0]), *new.shape[1:]), old.dtype)
    block[:, columns[0]] = old[rows[1]][:, columns[1]]
    value[rows[0]] = block
    return value


def _pairs(indices: tuple[int, ...] | None, count: int) -> tuple[Array, Array]:
    """(places in the child, places in the parent) of what both have."""
    if indices is None:
        everything = np.arange(count)
        return everything, everything
    parents = np.array(indices, np.intp)
    places = np.flatnonzero(parents >= 0)
    return places, parents[places]


def _identity(step: TensorPlan, new: Array) -> Array:
    assert step.inputs is not None  # an identity always says which input passes
    value = np.zeros_like(new)
    middle = (new.shape[2] - 1) // 2
    value[np.arange(new.shape[0]), np.array(step.inputs, np.intp), middle, middle] = 1.0
    return value

"""One optimizer step as a pure function of dictionaries by weight names: torch's formulas, and its names for what is
remembered, so that a training can pass from one library to the other in the middle.

Keras's own optimizers keep the rate inside the momentum and put epsilon elsewhere: with the same settings they come to
other weights. Weight decay acts on weights of more than one dimension, as in torch's trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from amla.spec.training import SGD, AdamW, Clip, RMSprop
from amla.trainers.surgery import STEP

AnyOptimizer = SGD | AdamW | RMSprop
Values = dict[str, Any]
#: Added to the norm that gradients are divided by (torch's own).
CLIP_EPSILON = 1e-6


def slot_names(how: AnyOptimizer) -> tuple[str, ...]:
    """What an optimizer remembers of each weight."""
    match how:
        case SGD():
            return ("momentum_buffer",) if how.momentum else ()
        case AdamW():
            return (STEP, "exp_avg", "exp_avg_sq")
        case RMSprop():
            return (STEP, "square_avg", *(("momentum_buffer",) if how.momentum else ()))


def fresh_slots(how: AnyOptimizer, weights: Mapping[str, Any]) -> Values:
    """Nothing remembered yet: zeros, as ``WEIGHT:SLOT``."""
    return {
        f"{name}:{slot}": ops.zeros(() if slot == STEP else value.shape)
        for name, value in weights.items()
        for slot in slot_names(how)
    }


def clipped(gradients: Values, how: Clip) -> Values:
    """Gradients within the limit."""
    if how.kind == "value":
        return {name: ops.clip(gradient, -how.value, how.value) for name, gradient in gradients.items()}
    norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients.values()))
    factor = ops.minimum(how.value / (norm + CLIP_EPSILON), 1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def updated(how: AnyOptimizer, weights: Values, gradients: Values, slots: Values, rate: Any) -> tuple[Values, Values]:
    """Weights and slots after a step."""
    after: Values = {}
    remembered: Values = {}
    for name, weight in weights.items():
        own = {slot: slots[f"{name}:{slot}"] for slot in slot_names(how)}
        decay = how.weight_decay if len(weight.shape) > 1 else 0.0
        after[name], kept = _one(how, weight, gradients[name], own, rate, decay)
        remembered |= {f"{name}:{slot}": value for slot, value in kept.items()}
    return after, remembered


def _one(how: AnyOptimizer, weight: Any, gradient: Any, slots: Values, rate: Any, decay: float) -> tuple[Any, Values]:
    match how:
        case SGD():
            return _sgd(how, weight, gradient + decay * weight if decay else gradient, slots, rate)
        case AdamW():
            return _adamw(how, weight * (1.0 - rate * decay) if decay else weight, gradient, slots, rate)
        case RMSprop():
            return _rmsprop(how, weight, gradient + decay * weight if decay else gradient, slots, rate)


def _sgd(how: SGD, weight: Any, gradient: Any, slots: Values, rate: Any) -> tuple[Any, Values]:
    if not how.momentum:
        return weight - rate * gradient, {}
    buffer = how.momentum * slots["momentum_buffer"] + gradient
    direction = gradient + how.momentum * buffer if how.nesterov else buffer
    return weight - rate * direction, {"momentum_buffer": buffer}


def _adamw(how: AdamW, weight: Any, gradient: Any, slots: Values, rate: Any) -> tuple[Any, Values]:
    step = slots[STEP] + 1.0
    mean = how.beta1 * slots["exp_avg"] + (1.0 - how.beta1) * gradient
    square = how.beta2 * slots["exp_avg_sq"] + (1.0 - how.beta2) * ops.square(gradient)
    size = ops.sqrt(square) / ops.sqrt(1.0 - how.beta2**step) + how.epsilon
    after = weight - rate / (1.0 - how.beta1**step) * mean / size
    return after, {STEP: step, "exp_avg": mean, "exp_avg_sq": square}


def _rmsprop(how: RMSprop, weight: Any, gradient: Any, slots: Values, rate: Any) -> tuple[Any, Values]:
    square = how.decay * slots["square_avg"] + (1.0 - how.decay) * ops.square(gradient)
    kept = {STEP: slots[STEP] + 1.0, "square_avg": square}
    direction = gradient / (ops.sqrt(square) + how.epsilon)
    if how.momentum:
        direction = kept["momentum_buffer"] = how.momentum * slots["momentum_buffer"] + direction
    return weight - rate * direction, kept


def averaged(decay: float, average: Values, current: Values, steps: Any) -> Values:
    """An exponential moving average of all tensors, ``steps`` taken in before this one. Early on it is shorter, so that it
    does not remember the initial weights."""
    share = 1.0 - ops.minimum(decay, (2.0 + steps) / (11.0 + steps))
    return {name: value + share * (current[name] - value) for name, value in average.items()}

"""One optimizer step as a pure function of vectors: torch's formulas, and its names for what is remembered, so that a
training can pass from one library to the other in the middle.

Keras's own optimizers keep the rate inside the momentum and put epsilon elsewhere: with the same settings they come to
other weights. Weight decay acts on weights of more than one dimension, as in torch's trainer: ``decayed`` is one there, and
zero elsewhere.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from amla.spec.training import SGD, AdamW, Clip, RMSprop
from amla.trainers.keras.vectors import Layout
from amla.trainers.surgery import STEP

AnyOptimizer = SGD | AdamW | RMSprop
#: What is remembered, by what it is called: a vector with a number for every weight.
Slots = dict[str, Any]
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


def fresh_slots(how: AnyOptimizer, layout: Layout) -> Slots:
    """Nothing remembered yet."""
    return {slot: layout.filled({}) for slot in slot_names(how)}


def decayed(layout: Layout) -> Any:
    """Where weight decay acts."""
    return layout.filled({name: float(len(shape) > 1) for name, shape in layout.shapes.items()})


def clipped(gradients: Any, how: Clip) -> Any:
    """Gradients within the limit."""
    if how.kind == "value":
        return ops.clip(gradients, -how.value, how.value)
    norm = ops.sqrt(ops.sum(ops.square(gradients)))
    return gradients * ops.minimum(how.value / (norm + CLIP_EPSILON), 1.0)


def updated(how: AnyOptimizer, weights: Any, gradients: Any, slots: Slots, rate: Any, decay: Any) -> tuple[Any, Slots]:
    """Weights and slots after a step. ``decay``: of each weight, ``how.weight_decay`` or zero."""
    match how:
        case SGD():
            return _sgd(how, weights, gradients + decay * weights, slots, rate)
        case AdamW():
            return _adamw(how, weights * (1.0 - rate * decay), gradients, slots, rate)
        case RMSprop():
            return _rmsprop(how, weights, gradients + decay * weights, slots, rate)


def _sgd(how: SGD, weight: Any, gradient: Any, slots: Slots, rate: Any) -> tuple[Any, Slots]:
    if not how.momentum:
        return weight - rate * gradient, {}
    buffer = how.momentum * slots["momentum_buffer"] + gradient
    direction = gradient + how.momentum * buffer if how.nesterov else buffer
    return weight - rate * direction, {"momentum_buffer": buffer}


def _adamw(how: AdamW, weight: Any, gradient: Any, slots: Slots, rate: Any) -> tuple[Any, Slots]:
    step = slots[STEP] + 1.0
    mean = how.beta1 * slots["exp_avg"] + (1.0 - how.beta1) * gradient
    square = how.beta2 * slots["exp_avg_sq"] + (1.0 - how.beta2) * ops.square(gradient)
    size = ops.sqrt(square) / ops.sqrt(1.0 - how.beta2**step) + how.epsilon
    after = weight - rate / (1.0 - how.beta1**step) * mean / size
    return after, {STEP: step, "exp_avg": mean, "exp_avg_sq": square}


def _rmsprop(how: RMSprop, weight: Any, gradient: Any, slots: Slots, rate: Any) -> tuple[Any, Slots]:
    square = how.decay * slots["square_avg"] + (1.0 - how.decay) * ops.square(gradient)
    kept = {STEP: slots[STEP] + 1.0, "square_avg": square}
    direction = gradient / (ops.sqrt(square) + how.epsilon)
    if how.momentum:
        direction = kept["momentum_buffer"] = how.momentum * slots["momentum_buffer"] + direction
    return weight - rate * direction, kept


def averaged(decay: float, average: Any, current: Any, steps: Any) -> Any:
    """An exponential moving average, ``steps`` taken in before this one. Early on it is shorter, so that it does not
    remember the initial weights."""
    share = 1.0 - ops.minimum(decay, (2.0 + steps) / (11.0 + steps))
    return average + share * (current - average)

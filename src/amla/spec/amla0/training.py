"""``child_training`` of AMLA 0.x -> ``Training``."""

from __future__ import annotations

from amla.errors import SpecError
from amla.spec.amla0.keys import Keys, built
from amla.spec.training import (
    SGD,
    Augmentation,
    Clip,
    CosineRestarts,
    Exponential,
    RMSprop,
    Training,
)

#: What TensorFlow's image models decayed by where a file does not say.
DECAY, EPOCHS_PER_DECAY = 0.94, 2.0


def read_training(keys: Keys, batch_size: int, augmentation: Augmentation) -> Training:
    """The whole training. Errors: ``SpecError`` naming the key."""
    weight_decay = _weight_decay(keys)
    smoothing = keys.group("label_smoothing").take("value", float) if keys.has("label_smoothing") else 0.0
    if not 0.0 <= smoothing < 1.0:
        raise SpecError(f"{keys.at('label_smoothing.value')}: wanted a number in [0, 1), got {smoothing:g}")
    training = built(
        keys.path,
        Training,
        batch_size=batch_size,
        optimizer=_optimizer(keys.group("optimizer"), weight_decay),
        schedule=_schedule(keys.group("lr")),
        clip=_clip(keys),
        label_smoothing=smoothing,
        augmentation=augmentation,
    )
    keys.leftover()
    return training


def _optimizer(keys: Keys, weight_decay: float) -> SGD | RMSprop:
    kind = keys.choose("type", ("sgd", "momentum", "rms", "rmsprop"))
    if kind == "sgd":
        found: SGD | RMSprop = SGD(weight_decay=weight_decay)
    elif kind == "momentum":
        found = SGD(momentum=_share(keys, "momentum", 0.9), nesterov=True, weight_decay=weight_decay)
    else:
        epsilon = _positive(keys, "epsilon", 1.0)
        decay, momentum = _share(keys, "decay", 0.9), _share(keys, "momentum", 0.9)
        found = RMSprop(decay=decay, momentum=momentum, epsilon=epsilon, weight_decay=weight_decay)
    keys.leftover(("momentum", "decay", "epsilon"))
    return found


def _schedule(keys: Keys) -> Exponential | CosineRestarts:
    kind = keys.choose("type", ("exponential_decay", "cosine_decay"))
    if kind == "exponential_decay":
        rate = _positive(keys, "initial")
        for key, value in (("decay", DECAY), ("epochs_per_decay", EPOCHS_PER_DECAY)):
            if not keys.has(key):
                keys.warn(key, f"is not given: {value:g} is taken, as TensorFlow's image models did")
        factor = _positive(keys, "decay", DECAY)
        if factor > 1.0:
            raise SpecError(f"{keys.at('decay')}: wanted a number up to 1, got {factor:g}")
        epochs = _positive(keys, "epochs_per_decay", EPOCHS_PER_DECAY)
        found: Exponential | CosineRestarts = Exponential(rate=rate, factor=factor, epochs=epochs)
    else:
        factor = keys.take("T_mul", float, 1.0)
        if factor < 1.0:
            raise SpecError(f"{keys.at('T_mul')}: wanted a number from 1 on, got {factor:g}")
        minimum = keys.take("min", float, 0.0)
        if minimum < 0.0:
            raise SpecError(f"{keys.at('min')}: wanted a number from 0 on, got {minimum:g}")
        found = CosineRestarts(
            rate=_positive(keys, "max"), minimum=minimum, first=_positive(keys, "T_0"), factor=factor
        )
    keys.leftover(("initial", "decay", "epochs_per_decay", "max", "min", "T_0", "T_mul"))
    return found


def _clip(keys: Keys) -> Clip | None:
    if not keys.has("gradient_clipping"):
        return None
    inner = keys.group("gradient_clipping")
    kind = inner.choose("type", ("norm", "value"))
    clip = Clip(kind="norm" if kind == "norm" else "value", value=_positive(inner, "value"))
    inner.leftover()
    return clip


def _weight_decay(keys: Keys) -> float:
    if not keys.has("regularization"):
        return 0.0
    inner = keys.group("regularization")
    inner.choose("type", ("l2",))
    value = inner.take("value", float)
    if value < 0.0:
        raise SpecError(f"{inner.at('value')}: wanted a number from 0 on, got {value:g}")
    inner.leftover()
    return value


def _positive(keys: Keys, key: str, default: float | None = None) -> float:
    value = keys.take(key, float, default)
    if value <= 0.0:
        raise SpecError(f"{keys.at(key)}: wanted a number above 0, got {value:g}")
    return value


def _share(keys: Keys, key: str, default: float) -> float:
    value = keys.take(key, float, default)
    if not 0.0 <= value < 1.0:
        raise SpecError(f"{keys.at(key)}: wanted a number in [0, 1), got {value:g}")
    return value

"""How a network is trained: optimizer, schedule, regularisation, augmentation, budget. Library-free."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from amla.spec.base import Document

Positive = Annotated[float, Field(gt=0.0)]
Unit = Annotated[float, Field(ge=0.0, lt=1.0)]


# ------------------------------------------------------------------------------------------------------------ optimizers
class SGD(Document):
    kind: Literal["sgd"] = "sgd"
    momentum: Unit = 0.0
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0.0, description="L2, added to the gradient")


class AdamW(Document):
    kind: Literal["adamw"] = "adamw"
    beta1: Unit = 0.9
    beta2: Unit = 0.999
    epsilon: Positive = 1e-8
    weight_decay: float = Field(0.01, ge=0.0, description="decoupled (arXiv 1711.05101)")


class RMSprop(Document):
    kind: Literal["rmsprop"] = "rmsprop"
    decay: Unit = 0.9
    momentum: Unit = 0.0
    epsilon: Positive = 1e-8
    weight_decay: float = Field(0.0, ge=0.0, description="L2, added to the gradient")


Optimizer = Annotated[SGD | AdamW | RMSprop, Field(discriminator="kind")]


# ------------------------------------------------------------------------------------------------- learning-rate schedules
class Constant(Document):
    kind: Literal["constant"] = "constant"
    rate: Positive = 0.1


class Exponential(Document):
    """rate * factor ** (epoch / epochs), in steps of whole periods where ``staircase``."""

    kind: Literal["exponential"] = "exponential"
    rate: Positive = 0.04
    factor: float = Field(0.97, gt=0.0, le=1.0)
    epochs: Positive = Field(2.0, description="epochs after which the rate has been multiplied by factor once")
    staircase: bool = True


class Cosine(Document):
    """From ``rate`` to ``minimum`` along half a cosine over the whole schedule (arXiv 1608.03983 equation 5)."""

    kind: Literal["cosine"] = "cosine"
    rate: Positive = 0.1
    minimum: float = Field(0.0, ge=0.0)


class CosineRestarts(Document):
    """Cosine decay that begins again after ``first`` epochs, then ``factor`` times as many, and so on (SGDR)."""

    kind: Literal["cosine_restarts"] = "cosine_restarts"
    rate: Positive = 0.05
    minimum: float = Field(0.001, ge=0.0)
    first: Positive = 10.0
    factor: float = Field(2.0, ge=1.0)


class OneCycle(Document):
    """Linearly up to ``rate`` during the first ``rise`` of the schedule, then linearly down to ``rate * final``."""

    kind: Literal["one_cycle"] = "one_cycle"
    rate: Positive = 0.2
    rise: float = Field(0.25, gt=0.0, lt=1.0)
    final: float = Field(0.01, ge=0.0)


Schedule = Annotated[Constant | Exponential | Cosine | CosineRestarts | OneCycle, Field(discriminator="kind")]


class Clip(Document):
    """``norm``: the global norm of all gradients at most ``value``; ``value``: each number within +-value."""

    kind: Literal["norm", "value"] = "norm"
    value: Positive = 5.0


class Augmentation(Document):
    """Applied to batches of training images, on the device."""

    pad_crop: int = Field(0, ge=0, description="pixels of reflected padding, then a random crop of the original size")
    flip: bool = Field(False, description="mirror left to right, half of the images")
    cutout: int = Field(0, ge=0, description="side in pixels of a blanked square")


class Training(Document):
    """Everything about a training but its length."""

    batch_size: int = Field(128, ge=1, le=65536)
    optimizer: Optimizer = SGD(momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule: Schedule = OneCycle()
    warmup: float = Field(0.0, ge=0.0, description="epochs in which the rate rises linearly from nothing")
    clip: Clip | None = None
    label_smoothing: Unit = 0.0
    auxiliary_weight: float = Field(0.4, ge=0.0, description="weight of each auxiliary classifier's loss")
    ema: Unit = Field(0.0, description="decay of the average of weights that is evaluated; 0 is off")
    augmentation: Augmentation = Augmentation()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class Budget(Document):
    """How long: exactly one of steps, epochs (may be fractional) or seconds."""

    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0.0)
    seconds: float | None = Field(None, gt=0.0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.steps, self.epochs, self.seconds)) != 1:
            raise ValueError("a budget is exactly one of steps, epochs or seconds")
        return self

    def in_steps(self, images: int, batch_size: int) -> int | None:
        """Optimizer steps for a training split of ``images``; None where the budget is in seconds."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return max(1, round(self.epochs * steps_per_epoch(images, batch_size)))
        return None


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Full batches in one pass; the rest of a pass is left out, unless there is nothing else."""
    return max(1, images // batch_size)

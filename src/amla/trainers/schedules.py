"""Learning rates as pure functions of the place in the schedule, for every trainer alike."""

from __future__ import annotations

import math

from amla.spec.training import Constant, Cosine, CosineRestarts, Exponential, OneCycle, Training

AnySchedule = Constant | Exponential | Cosine | CosineRestarts | OneCycle


def learning_rate(training: Training, step: float, total: float, steps_per_epoch: int) -> float:
    """The rate of the optimizer step that follows ``step`` others, in a schedule of ``total`` steps.

    A warm-up rises linearly to the schedule's own rate at that place.
    """
    rate = scheduled(training.schedule, step, max(total, 1.0), steps_per_epoch)
    warm = training.warmup * steps_per_epoch
    return rate * (step + 1) / warm if step + 1 < warm else rate


def scheduled(schedule: AnySchedule, step: float, total: float, steps_per_epoch: int) -> float:
    """The rate without a warm-up."""
    share = min(1.0, step / total)
    epoch = step / steps_per_epoch
    match schedule:
        case Constant():
            return schedule.rate
        case Exponential():
            periods = epoch / schedule.epochs
            return schedule.rate * schedule.factor ** (math.floor(periods) if schedule.staircase else periods)
        case Cosine():
            return _half_cosine(schedule.rate, schedule.minimum, share)
        case CosineRestarts():
            return _half_cosine(schedule.rate, schedule.minimum, _since_restart(epoch, schedule.first, schedule.factor))
        case OneCycle():
            if share < schedule.rise:
                # not from nothing: the first step would be lost
                return schedule.rate * (0.1 + 0.9 * share / schedule.rise)
            fall = (share - schedule.rise) / (1.0 - schedule.rise)
            return schedule.rate * (1.0 - fall * (1.0 - schedule.final))


def _half_cosine(rate: float, minimum: float, share: float) -> float:
    return minimum + 0.5 * (rate - minimum) * (1.0 + math.cos(math.pi * share))


def _since_restart(epoch: float, first: float, factor: float) -> float:
    """The share of the present period that is over, in [0, 1): periods last first, first * factor, ... epochs."""
    length = first
    while epoch >= length:
        epoch -= length
        length *= factor
    return epoch / length

"""What the spaces share about images that are large for the time there is: stems that halve them, and ladders of settings."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from pydantic import JsonValue

from amla.spec.architecture import ConvStep, Step
from amla.spec.experiment import Problem

#: A time budget may halve images once more where so many pixels a side are there: a wider network for the same cost.
HALVED_FROM = 16


def halvings(problem: Problem) -> int:
    """How often an image is halved before its first stage: to at most 64 pixels a side."""
    return max(0, math.ceil(math.log2(max(problem.input_shape[1:]) / 64)))


def one_more_halving(problem: Problem) -> int | None:
    """Halvings of a stem that halves once more than it must; None where too little of the image would be left."""
    usual = halvings(problem)
    return usual + 1 if max(problem.input_shape[1:]) >> usual >= HALVED_FROM else None


def conv_stem(channels: int, halved: int, *, ends_in_activation: bool = True) -> tuple[Step, ...]:
    """A convolution, or as many of stride 2 as the image is ``halved``."""
    steps = max(1, halved)
    return tuple(
        ConvStep(channels=channels, stride=2 if halved else 1, activation=ends_in_activation or step < steps)
        for step in range(1, steps + 1)
    )


def suited_stem(problem: Problem, channels: int, halved: int | None = None) -> tuple[Step, ...]:
    """A convolution, or as many of stride 2 as the image is ``halved``: by default as bring large images to at most 64
    pixels a side."""
    return conv_stem(channels, halvings(problem) if halved is None else halved)


def rungs(ladder: Iterable[dict[str, JsonValue]], fixed: Collection[str]) -> Iterator[dict[str, JsonValue]]:
    """Every rung without the settings that are ``fixed``, once."""
    seen: list[dict[str, JsonValue]] = []
    for rung in ladder:
        still = {key: value for key, value in rung.items() if key not in fixed}
        if still not in seen:
            seen.append(still)
            yield still

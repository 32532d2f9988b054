"""Hyperparameters of training that are searched, with or without the architecture: what each may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, JsonValue, model_validator

from amla.errors import SpecError
from amla.spec.base import Document
from amla.spec.training import Training


class Real(Document):
    """A number between ``low`` and ``high``; uniform in its logarithm where ``log``."""

    kind: Literal["real"] = "real"
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, self.log)
        return self


class Integer(Document):
    """A whole number between ``low`` and ``high``, both possible."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_range(self.low, self.high, self.log)
        return self


class Choice(Document):
    """One of ``options``, which have no order."""

    kind: Literal["choice"] = "choice"
    options: tuple[JsonValue, ...] = Field(min_length=1)


#: One hyperparameter. Its name is a key of ``Training``, dots going down: ``schedule.rate``.
Hyperparameter = Annotated[Real | Integer | Choice, Field(discriminator="kind")]


def tuned(training: Training, values: Mapping[str, JsonValue]) -> Training:
    """The training with these values under these keys. Errors: ``SpecError`` naming a key that it has not, or a value that
    it may not have."""
    data = training.to_data()
    for key, value in values.items():
        *parts, last = key.split(".")
        place: Any = data
        for part in parts:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise SpecError(f"hyperparameters.{key}: this training has no such key")
        place[last] = value
    try:
        return Training.parse(data)
    except SpecError as error:
        raise SpecError(str(error).replace("Training: ", "hyperparameters.", 1)) from None


def value_of(training: Training, name: str) -> JsonValue:
    """The value that a training has under a key, dots going down; a group of keys as plain data."""
    place: Any = training
    for part in name.split("."):
        place = getattr(place, part)
    value: JsonValue = place.to_data() if isinstance(place, Document) else place
    return value


def drawn(parameters: Mapping[str, Hyperparameter], rng: np.random.Generator) -> dict[str, JsonValue]:
    """A value of every parameter, at random as each says."""
    return {name: _draw(parameter, rng) for name, parameter in parameters.items()}


def check_names(parameters: Mapping[str, Hyperparameter]) -> None:
    """Errors: ``SpecError`` where one hyperparameter lies inside another, so that the order would decide."""
    for name in parameters:
        outer = next((other for other in parameters if name.startswith(f"{other}.")), None)
        if outer is not None:
            raise SpecError(f"hyperparameters.{name}: it lies inside hyperparameters.{outer}; search one of them")


def probes(parameters: Mapping[str, Hyperparameter]) -> list[dict[str, JsonValue]]:
    """Settings that show what is wrong with a range: both ends of every one, a place in between that is no whole number
    where it need not be, and every option."""
    found = [[*p.options] if isinstance(p, Choice) else [p.low, p.high, _between(p)] for p in parameters.values()]
    most = max(map(len, found), default=0)
    return [
        {name: values[turn % len(values)] for name, values in zip(parameters, found, strict=True)}
        for turn in range(most)
    ]


def _between(parameter: Real | Integer) -> int | float:
    if isinstance(parameter, Integer):
        return parameter.low
    return parameter.low + (parameter.high - parameter.low) / math.pi


def _draw(parameter: Hyperparameter, rng: np.random.Generator) -> JsonValue:
    if isinstance(parameter, Choice):
        return parameter.options[int(rng.integers(len(parameter.options)))]
    low, high = float(parameter.low), float(parameter.high)
    if isinstance(parameter, Integer):  # as wide about each whole number as about the next
        low, high = low - 0.5, high + 0.5
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if parameter.log else rng.uniform(low, high)
    if isinstance(parameter, Integer):
        return min(parameter.high, max(parameter.low, round(value)))
    return float(value)


def _check_range(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise ValueError(f"low must be less than high, but they are {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range must lie above 0, but begins at {low}")

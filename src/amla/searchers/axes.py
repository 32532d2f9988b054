"""Points as rows of numbers, for models that need them: one axis a decision or hyperparameter."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from amla.searchers.searched import Point, Searched
from amla.spec.hyperparameters import Choice, Hyperparameter, Integer

Rows = npt.NDArray[np.float64]

#: How far a neighbour lies on an axis of numbers, as shares of its range: the standard deviations that are drawn from.
STRIDES = (0.02, 0.1, 0.3)


class Axes:
    """On a categorical axis a row has the index of an option, on one of numbers a place between 0 (``low``) and 1 (``high``),
    in the logarithm where the hyperparameter says so. ``options`` counts those of every axis; 0 says that it has numbers.
    """

    def __init__(self, searched: Searched) -> None:
        self._decisions = searched.decisions
        self._parameters = searched.parameters
        self.names = [*self._decisions, *self._parameters]
        sizes = [len(options) for options in self._decisions.values()]
        sizes += [len(p.options) if isinstance(p, Choice) else 0 for p in self._parameters.values()]
        self.options = np.array(sizes, dtype=int)

    def row(self, point: Point) -> Rows:
        """Where a point stands: (axes,)."""
        places = [options.index(point.options[name]) for name, options in self._decisions.items()]
        numbers = [_place(parameter, point.values[name]) for name, parameter in self._parameters.items()]
        return np.array([*places, *numbers], dtype=np.float64)

    def point(self, row: Rows) -> Point:
        """The point at a row, whole numbers rounded."""
        count = len(self._decisions)
        options = {
            name: known[int(place)] for (name, known), place in zip(self._decisions.items(), row[:count], strict=True)
        }
        values = {
            name: _value(parameter, float(place))
            for (name, parameter), place in zip(self._parameters.items(), row[count:], strict=True)
        }
        return Point(options, values)

    def random(self, rng: np.random.Generator, count: int) -> Rows:
        """(count, axes), uniform on every axis."""
        drawn = rng.random((count, len(self.options)))
        return np.where(self.options > 0, np.floor(drawn * self.options), drawn)

    def around(self, row: Rows, rng: np.random.Generator) -> Rows:
        """All rows with another option on one axis, and on each axis of numbers a few that lie near: (neighbours, axes)."""
        found = []
        for axis, size in enumerate(self.options):
            if size:
                found.append(self._others[axis][int(row[axis])])
            else:
                found.append(np.clip(row[axis] + rng.normal(0.0, STRIDES), 0.0, 1.0))
        moved = np.repeat(row[None], sum(map(len, found)), axis=0)
        moved[np.arange(len(moved)), np.repeat(np.arange(len(found)), [len(places) for places in found])] = (
            np.concatenate(found)
        )
        return moved

    @functools.cached_property
    def _others(self) -> list[list[Rows]]:
        """Of every categorical axis, the other options of each option."""
        return [
            [np.delete(np.arange(size), place).astype(np.float64) for place in range(size)] for size in self.options
        ]

    def features(self, rows: Sequence[Rows] | Rows) -> tuple[Rows, npt.NDArray[np.intp]]:
        """Rows in which squared distances are Hamming distances on categorical axes, (rows, features), and the axis of
        every feature: an option becomes a one-hot vector of length 1/sqrt(2)."""
        table = np.asarray(rows, dtype=np.float64).reshape(-1, len(self.options))
        axes = np.repeat(np.arange(len(self.options)), np.maximum(self.options, 1))
        option = np.concatenate([np.arange(max(size, 1)) for size in self.options])
        columns = table[:, axes]
        found = np.where(self.options[axes] > 0, (columns == option) * math.sqrt(0.5), columns)
        return np.ascontiguousarray(found), axes


def _place(parameter: Hyperparameter, value: JsonValue) -> float:
    if isinstance(parameter, Choice):
        return float(parameter.options.index(value))
    number, low, high = float(str(value)), float(parameter.low), float(parameter.high)
    if parameter.log:
        number, low, high = math.log(number), math.log(low), math.log(high)
    return (number - low) / (high - low)


def _value(parameter: Hyperparameter, place: float) -> JsonValue:
    if isinstance(parameter, Choice):
        return parameter.options[int(place)]
    low, high = float(parameter.low), float(parameter.high)
    number = math.exp(math.log(low) + place * math.log(high / low)) if parameter.log else low + place * (high - low)
    number = min(high, max(low, number))
    return round(number) if isinstance(parameter, Integer) else number

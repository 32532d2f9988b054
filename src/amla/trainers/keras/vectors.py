"""Tensors by name as one vector, and back.

What trains a network is one vector of weights: its optimizer is then a handful of operations whatever the network, which
compile in no time, where a step for each tensor took XLA a quarter of the whole compilation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from amla.trainers.keras import backend

Values = dict[str, Any]
#: The vectors of a network: the weights that are trained, and the running statistics.
Both = tuple[Any, Any]


class Layout:
    """Which part of a vector is which tensor."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        self.places: dict[str, slice] = {}
        end = 0
        for name, shape in shapes.items():
            self.places[name] = slice(end, end + math.prod(shape))
            end += math.prod(shape)
        self.size = end

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def split(self, vector: Any) -> Values:
        """The tensors in a vector, inside a program."""
        return {name: ops.reshape(vector[place], self.shapes[name]) for name, place in self.places.items()}

    def join(self, values: Mapping[str, Any]) -> Any:
        """The vector of these tensors, inside a program."""
        if not self.shapes:
            return ops.zeros((0,))
        return ops.concatenate([ops.reshape(ops.cast(values[name], "float32"), (-1,)) for name in self.shapes])

    def pack(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
        """The vector of these arrays, as a tensor."""
        vector = np.zeros(self.size, np.float32)
        for name, place in self.places.items():
            vector[place] = arrays[name].reshape(-1)
        return ops.convert_to_tensor(vector)

    def unpack(self, vector: Any) -> dict[str, npt.NDArray[Any]]:
        """The arrays in a vector."""
        flat = backend.numpy(vector)
        return {name: flat[place].reshape(self.shapes[name]) for name, place in self.places.items()}

    def filled(self, numbers: Mapping[str, float]) -> Any:
        """A vector with one number all over each tensor; zero where there is none."""
        return self.pack({name: np.full(shape, numbers.get(name, 0.0)) for name, shape in self.shapes.items()})

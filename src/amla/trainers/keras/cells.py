"""A cell's convolutions as few dense ones: fewer programs inside the program to compile, and larger products to run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from amla.spec.graph import ConvNode, Shape
from amla.trainers.cells import Branch, Cell, Window

#: Output channels that a convolution computes in the time of one; it takes so many at once.
LANES = 16
#: A separable convolution with more output channels stays two: its dense kernel would cost more than its own steps.
COMPOSED = 2 * LANES


def parts_of(cell: Cell) -> list[tuple[Branch, ...]]:
    """The branches of a cell that become one dense convolution each: the split of the kernels by size that costs least.

    A convolution's cost is its window times its output channels, full lanes. What is in no part is computed as it stands.
    """
    plain = [branch for branch in cell.branches if branch.plain and not _wide(branch)]
    plain.sort(key=lambda branch: branch.convs[0].kernel)
    best: list[tuple[int, list[tuple[Branch, ...]]]] = [(0, [])]
    for end in range(1, len(plain) + 1):
        ways = [
            (best[first][0] + _cost(plain[first:end], cell.into), [*best[first][1], tuple(plain[first:end])])
            for first in range(end)
        ]
        best.append(min(ways, key=lambda way: (way[0], len(way[1]))))
    return best[-1][1]


def _wide(branch: Branch) -> bool:
    return branch.separable and branch.convs[-1].shape[0] > COMPOSED


def _cost(branches: Sequence[Branch], into: Shape) -> int:
    width = sum(branch.convs[-1].shape[0] for branch in branches)
    return Window(branches, into).taps * math.ceil(width / LANES) * LANES


class Merged(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Dense and separable convolutions of one input as one dense convolution; the outputs stand next to each other.

    ``kernels`` are those of the convolutions, one by one, by the names of their nodes.
    """

    def __init__(self, branches: Sequence[Branch], into: Shape, **options: Any) -> None:
        super().__init__(**options)
        self.branches, self.window = tuple(branches), Window(branches, into)
        self.width = sum(branch.convs[-1].shape[0] for branch in branches)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.kernels = {
            conv.name: self.add_weight(
                name=conv.name.replace("/", "."), shape=_kernel_shape(conv, int(shape[-1] or 0)), initializer="zeros"
            )
            for branch in self.branches
            for conv in branch.convs
        }

    def call(self, x: Any) -> Any:
        (top, bottom), (left, right) = self.window.rows, self.window.columns
        kernels = [
            _brought(self._dense(branch), *margins)
            for branch, margins in zip(self.branches, self.window.margins(), strict=True)
        ]
        kernel = kernels[0] if len(kernels) == 1 else ops.concatenate(kernels, axis=-1)
        around = ((-top, bottom), (-left, right))
        if all(before == after for before, after in around):
            return ops.conv(x, kernel, padding="same")
        return ops.conv(ops.pad(x, ((0, 0), *around, (0, 0))), kernel, padding="valid")

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:-1], self.width)

    def _dense(self, branch: Branch) -> Any:
        """The kernel (h, w, in, out) of a convolution, or of a depthwise (h, w, in, 1) and a pointwise one behind it."""
        kernels = [ops.convert_to_tensor(self.kernels[conv.name]) for conv in branch.convs]
        return kernels[0] if len(kernels) == 1 else kernels[0] * kernels[1]


def _kernel_shape(conv: ConvNode, channels: int) -> tuple[int, ...]:
    depthwise = conv.groups > 1
    return (conv.kernel, conv.kernel, channels, 1 if depthwise else conv.shape[0])


def _brought(kernel: Any, rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    """A kernel with so many zeros (or taps less) before and after."""
    cut = tuple(
        slice(max(0, -before), side - max(0, -after))
        for side, (before, after) in zip(kernel.shape[:2], (rows, columns), strict=True)
    )
    zeros = [(max(0, before), max(0, after)) for before, after in (rows, columns)]
    return ops.pad(kernel[cut], (*zeros, (0, 0), (0, 0)))

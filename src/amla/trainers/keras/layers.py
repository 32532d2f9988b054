"""Layers that Keras has not, or has otherwise."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops


class Norm(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Batch normalisation over all axes but the last, centred, scaled where asked.

    ``momentum`` is the weight of the new batch. Keras's own keeps the biased variance of a batch in its running
    statistics, and torch the unbiased one: this does as torch, so that both come to the same network. A batch with one
    value a channel has no variance: the running statistics are used, and kept.

    It can stand for the norms of several nodes, of so many channels each (``widths``), next to each other: every one has
    its own variables then, in their order.
    """

    def __init__(
        self, scale: bool, epsilon: float, momentum: float, widths: tuple[int, ...] = (), **options: Any
    ) -> None:
        super().__init__(**options)
        self.scaled, self.epsilon, self.momentum, self.widths = scale, epsilon, momentum, widths
        self.by_batch = False  # in evaluation too

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.widths = self.widths or (int(shape[-1] or 0),)
        fixed = {"trainable": False, "autocast": False}
        self.gammas = self._one_each("gamma", "ones") if self.scaled else []
        self.betas = self._one_each("beta", "zeros")
        self.means = self._one_each("moving_mean", "zeros", **fixed)
        self.variances = self._one_each("moving_variance", "ones", **fixed)

    def _one_each(self, name: str, start: str, **options: Any) -> list[Any]:
        return [
            self.add_weight(name=f"{name}{number}", shape=(width,), initializer=start, **options)
            for number, width in enumerate(self.widths)
        ]

    def call(self, x: Any, training: bool = False) -> Any:
        values = ops.cast(x, "float32")
        axes = tuple(range(len(x.shape) - 1))
        mean, variance = _together(self.means), _together(self.variances)
        count = math.prod(x.shape[:-1])
        if (training or self.by_batch) and count > 1:
            new, new_variance = ops.mean(values, axes), ops.var(values, axes)
            self._remember(self.means, mean + self.momentum * (new - mean))
            self._remember(self.variances, variance + self.momentum * (new_variance * (count / (count - 1)) - variance))
            mean, variance = new, new_variance
        factor = ops.rsqrt(variance + self.epsilon)
        if self.gammas:
            factor = factor * ops.cast(_together(self.gammas), "float32")
        shift = ops.cast(_together(self.betas), "float32") - mean * factor
        return ops.cast(values * factor + shift, self.compute_dtype)

    def _remember(self, running: list[Any], value: Any) -> None:
        first = 0
        for variable, width in zip(running, self.widths, strict=True):
            variable.assign(value[first : first + width])
            first += width

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


@contextlib.contextmanager
def by_batch(layers: Iterable[Any]) -> Iterator[None]:
    """Meanwhile, norms go by the statistics of the batch in evaluation too."""
    norms = [layer for layer in layers if isinstance(layer, Norm)]
    for norm in norms:
        norm.by_batch = True
    try:
        yield
    finally:
        for norm in norms:
            norm.by_batch = False


def _together(variables: list[Any]) -> Any:
    values = [ops.convert_to_tensor(variable) for variable in variables]
    return values[0] if len(values) == 1 else ops.concatenate(values)


class Scale(keras.layers.Layer):  # type: ignore[misc]
    """The input times one learned number."""

    def build(self, shape: tuple[int | None, ...]) -> None:  # noqa: ARG002  # Keras gives it
        self.scalar = self.add_weight(name="scalar", shape=(1,), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.scalar

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


class Depthwise(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """A depthwise convolution for CPUs, where XLA's own takes ten times as long as a dense one: the sum of shifted images,
    each times its tap. Its gradients are of the same kind. ``stride`` is applied to its output."""

    def __init__(self, pads: tuple[int, int], stride: int, dilation: int, **options: Any) -> None:
        super().__init__(**options)
        self.pads, self.stride, self.dilation = pads, stride, dilation

    def call(self, x: Any) -> Any:
        if self.depth_multiplier > 1:
            x = ops.repeat(x, self.depth_multiplier, axis=-1)
        side = self.kernel_size[0]
        kernel = ops.reshape(self.kernel, (side, side, x.shape[-1]))
        y = _depthwise(self.pads, self.dilation)(x, kernel)
        if self.bias is not None:
            y = y + self.bias
        return y[:, :: self.stride, :: self.stride, :]

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        sides = [-(-side // self.stride) for side in shape[1:3] if side]
        return (shape[0], *sides, int(shape[-1] or 0) * int(self.depth_multiplier))

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(self.compute_output_shape(x.shape), self.compute_dtype)


def _depthwise(pads: tuple[int, int], dilation: int) -> Any:
    """(images (n, h, w, c), kernel (k, k, c)) -> a depthwise convolution of stride 1."""

    @ops.custom_gradient  # type: ignore[untyped-decorator]
    def run(x: Any, kernel: Any) -> Any:
        def gradient(*given: Any, upstream: Any = None) -> tuple[Any, Any]:
            arrived = given[-1] if upstream is None else upstream
            turned = _correlated(arrived, ops.flip(kernel, (0, 1)), (pads[1], pads[0]), dilation)
            return turned, _tap_gradients(x, arrived, kernel.shape[0], pads, dilation)

        return _correlated(x, kernel, pads, dilation), gradient

    return run


def _correlated(x: Any, kernel: Any, pads: tuple[int, int], dilation: int) -> Any:
    side = kernel.shape[0]
    padded = ops.pad(x, ((0, 0), pads, pads, (0, 0)))

    def add(tap: Any, total: Any) -> Any:
        row, column = tap // side, tap % side
        piece = ops.slice(padded, (0, row * dilation, column * dilation, 0), x.shape)
        weight = ops.slice(kernel, (row, column, 0), (1, 1, x.shape[-1]))
        return total + piece * ops.reshape(weight, (x.shape[-1],))

    return ops.fori_loop(0, side * side, add, ops.zeros_like(x))


def _tap_gradients(x: Any, arrived: Any, side: int, pads: tuple[int, int], dilation: int) -> Any:
    """(k, k, c): of each tap, the sum of its shifted image times what arrived. A product with ones sums faster than a sum."""
    padded = ops.pad(x, ((0, 0), pads, pads, (0, 0)))
    ones = ops.ones((1, math.prod(x.shape[:-1])), x.dtype)

    def one(tap: Any, found: Any) -> Any:
        row, column = tap // side, tap % side
        piece = ops.slice(padded, (0, row * dilation, column * dilation, 0), x.shape)
        total = ops.matmul(ones, ops.reshape(piece * arrived, (-1, x.shape[-1])))
        return ops.slice_update(found, (tap, 0), total)

    found = ops.fori_loop(0, side * side, one, ops.zeros((side * side, x.shape[-1]), x.dtype))
    return ops.reshape(found, (side, side, x.shape[-1]))


class _Chance(keras.layers.Layer):  # type: ignore[misc]
    """A layer that draws at random, in training only, from ``seed``: a whole number that the trainer sets at every step."""

    def build(self, shape: tuple[int | None, ...]) -> None:  # noqa: ARG002  # Keras gives it
        self.seed = self.add_weight(name="seed", shape=(), dtype="uint32", initializer="zeros", trainable=False)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return shape


class Dropout(_Chance):
    """Numbers set to zero with a probability of ``rate``, the others divided by 1 - rate (arXiv 1207.0580)."""

    def __init__(self, rate: float, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate

    def call(self, x: Any, training: bool = False) -> Any:
        if not training or self.rate == 0.0:
            return x
        keep = bits(x.shape, self.seed) < np.uint32((1.0 - self.rate) * 2.0**32)
        return ops.where(keep, x / (1.0 - self.rate), ops.zeros_like(x))


class Cutout(_Chance):
    """A blank square at a random place in every image; it may reach over the edge (arXiv 1708.04552)."""

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return x
        drawn = bits((2, x.shape[0]), self.seed)
        centres = [drawn[axis] % np.uint32(x.shape[axis + 1]) for axis in (0, 1)]
        return blank_squares(x, self.size, ops.cast(ops.stack(centres), "int32"))


def bits(shape: tuple[int, ...], seed: Any) -> Any:
    """32 random bits for every place of a shape: the place and the seed through the finaliser of MurmurHash3.

    Keras's own generator on JAX is Threefry: on a CPU XLA takes two seconds to compile it for every shape, and forty
    times as long to run it. A mask needs no more than this.
    """
    place = ops.reshape(ops.cast(ops.arange(math.prod(shape), dtype="int32"), "uint32"), shape)
    mixed = place * np.uint32(0x9E3779B9) + ops.cast(seed, "uint32")
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        mixed = ops.bitwise_xor(mixed, ops.right_shift(mixed, np.uint32(16))) * np.uint32(factor)
    return ops.bitwise_xor(mixed, ops.right_shift(mixed, np.uint32(16)))


def blank_squares(x: Any, size: int, centres: Any) -> Any:
    """Images (n, h, w, c) with a square of ``size`` pixels a side set to zero, around ``centres`` (2, n): row and column."""
    masks = []
    for side, centre in zip(x.shape[1:3], (centres[0], centres[1]), strict=True):
        place = ops.arange(side, dtype="int32") - centre[:, None] + size // 2
        masks.append(ops.logical_and(place >= 0, place < size))
    square = ops.logical_and(masks[0][:, :, None], masks[1][:, None, :])
    return ops.where(square[..., None], ops.zeros_like(x), x)

"""All chance of a training, drawn by numpy from (seed, epoch, step): every library sees the same batches in the same order,
with the same augmentation, and can go on from any step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from amla.spec.training import Augmentation

Integers = npt.NDArray[np.int32]


class Draws(NamedTuple):
    """What was drawn for a batch of n images, by the augmentation that uses it. What is off is not drawn."""

    shifts: Integers | None = None  # (2, n): first row and column of the crop, in the padded image
    mirrored: npt.NDArray[np.bool_] | None = None  # (n,)
    centres: Integers | None = None  # (2, n): row and column of the middle of the blanked square


def mixed(seed: int, *places: int) -> int:
    """One seed of 63 bits out of several numbers: the training's, and an epoch, a step, ..."""
    return int(np.random.SeedSequence([seed, *places]).generate_state(1, np.uint64)[0] >> 1)


def order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of so many images in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def draw(how: Augmentation, count: int, sides: tuple[int, int], seed: int, epoch: int, step: int) -> Draws:
    """The chance of one augmented batch of ``count`` images of ``sides`` (height, width) pixels."""
    rng = np.random.default_rng([seed, epoch, step])
    pixels = crop_padding(how, sides)
    return Draws(
        shifts=rng.integers(2 * pixels + 1, size=(2, count), dtype=np.int32) if pixels else None,
        mirrored=rng.random(count) < 0.5 if how.flip else None,
        centres=np.stack([rng.integers(side, size=count, dtype=np.int32) for side in sides]) if how.cutout else None,
    )


def crop_padding(how: Augmentation, sides: tuple[int, int]) -> int:
    """Pixels of reflected padding around an image; a reflection ends before the far edge."""
    return max(0, min(how.pad_crop, *(side - 1 for side in sides)))

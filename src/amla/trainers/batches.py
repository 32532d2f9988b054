"""Batches as numpy arrays, for a library whose compiled step normalises and augments them itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from amla.datasets.base import Dataset, Images, Labels
from amla.errors import DataError
from amla.spec.data import DatasetInfo, Split
from amla.spec.training import Augmentation, steps_per_epoch
from amla.trainers.chance import Draws, draw, mixed, order


class Batch(NamedTuple):
    """Raw images (n, h, w, c), labels (n,), the chance of their augmentation, and a seed for what is random in a network."""

    images: Images
    labels: Labels
    draws: Draws
    seed: np.uint32


class Batches:
    """The training split as an endless row of batches, from any step on."""

    def __init__(self, data: Dataset, batch_size: int, how: Augmentation, seed: int) -> None:
        self.data, self.how, self.seed = data, how, seed
        self.count = data.info.sizes["train"]
        self.size = min(batch_size, self.count)
        self.per_epoch = steps_per_epoch(self.count, batch_size)
        self.whole = None if data.streamed else data.arrays("train")

    def __call__(self, first: int) -> Iterator[Batch]:
        """Batches from the step ``first`` on, without end. Errors: ``DataError``."""
        step = first
        while True:
            epoch, place = divmod(step, self.per_epoch)
            before = step
            for images, labels in self._epoch(epoch, place):
                sides = (images.shape[1], images.shape[2])
                draws = draw(self.how, len(images), sides, self.seed, epoch, step)
                seed = np.uint32(mixed(self.seed, epoch, step, 1) % 2**32)
                yield Batch(images, labels, draws, seed)
                step += 1
            if step == before:
                raise ended_early(self.data, place, self.size, self.count)

    def first_images(self, count: int) -> Images:
        """The first images of the split."""
        if self.whole is not None:
            return self.whole[0][:count]
        return next(self.data.batches("train", count))[0]

    def _epoch(self, epoch: int, place: int) -> Iterator[tuple[Images, Labels]]:
        if self.whole is None:
            batches = self.data.batches("train", self.size, seed=mixed(self.seed, epoch, 0))
            yield from (batch for index, batch in enumerate(batches) if place <= index < self.per_epoch)
            return
        images, labels = self.whole
        places = order(self.count, self.seed, epoch)
        for index in range(place, self.per_epoch):
            chosen = places[index * self.size : (index + 1) * self.size]
            yield images[chosen], labels[chosen]


def padded_size(info: DatasetInfo, split: Split, most: int) -> int:
    """Images of each batch of ``padded_batches``."""
    return min(most, max(1, info.sizes[split]))


def padded_batches(data: Dataset, split: Split, most: int) -> Iterator[tuple[Images, Labels]]:
    """One pass over a split in its own order. All batches of images have one size: the last is filled up with zeros, its
    labels are as many as there are."""
    size = padded_size(data.info, split, most)
    for images, labels in data.batches(split, size):
        yield filled(images, size), labels


def filled(images: Images, size: int) -> Images:
    """Images, and zeros up to so many."""
    if len(images) == size:
        return images
    return np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), images.dtype)])


def ended_early(data: Dataset, batches: int, size: int, count: int) -> DataError:
    """The error for a stream with fewer images than it said."""
    return DataError(
        f"{data.info.name}: its training split ends after {batches} batches of {size} images, but it should have {count} images"
    )

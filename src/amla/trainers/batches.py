"""The training split in batches, in an order that belongs to no library; and batches as numpy arrays, for a library whose
compiled step normalises and augments them itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from amla.datasets.base import Dataset, Images, Labels
from amla.errors import DataError
from amla.spec.data import DatasetInfo, Split
from amla.spec.training import Augmentation, steps_per_epoch
from amla.trainers.chance import Draws, draw, mixed, order

Integers = npt.NDArray[np.int64]
HeldImages = TypeVar("HeldImages")
HeldLabels = TypeVar("HeldLabels")
Made = TypeVar("Made")


class Batch(NamedTuple):
    """Raw images (n, h, w, c), labels (n,), the chance of their augmentation, and a seed for what is random in a network."""

    images: Images
    labels: Labels
    draws: Draws
    seed: np.uint32


class BatchesOf(ABC, Generic[HeldImages, HeldLabels, Made]):
    """The training split as an endless row of batches, from any step on.

    A library says how images and labels are held (arrays or tensors, on a device) and what is made of them for a step.
    """

    def __init__(self, data: Dataset, batch_size: int, how: Augmentation, seed: int) -> None:
        self.data, self.how, self.seed = data, how, seed
        self.count = data.info.sizes["train"]
        self.size = min(batch_size, self.count)
        self.per_epoch = steps_per_epoch(self.count, batch_size)
        self.whole = None if data.streamed else self._held(*data.arrays("train"))

    @abstractmethod
    def _held(self, images: Images, labels: Labels) -> tuple[HeldImages, HeldLabels]:
        """Images (n, h, w, c) and labels (n,) as the library holds them."""

    @abstractmethod
    def _places(self, order: Integers) -> Any:
        """Places in the split, to index with what is held."""

    @abstractmethod
    def _batch(self, images: HeldImages, labels: HeldLabels, epoch: int, step: int) -> Made:
        """What a step is given."""

    def __call__(self, first: int) -> Iterator[Made]:
        """Batches from the step ``first`` on, without end. Errors: ``DataError``."""
        step = first
        while True:
            epoch, place = divmod(step, self.per_epoch)
            before = step
            for images, labels in self._epoch(epoch, place):
                yield self._batch(images, labels, epoch, step)
                step += 1
            if step == before:
                raise _ended_early(self.data, place, self.size, self.count)

    def _epoch(self, epoch: int, place: int) -> Iterator[tuple[HeldImages, HeldLabels]]:
        if self.whole is None:
            batches = self.data.batches("train", self.size, seed=mixed(self.seed, epoch, 0))
            yield from (self._held(*batch) for index, batch in enumerate(batches) if place <= index < self.per_epoch)
            return
        images: Any
        labels: Any
        images, labels = self.whole
        places = self._places(order(self.count, self.seed, epoch))
        for index in range(place, self.per_epoch):
            chosen = places[index * self.size : (index + 1) * self.size]
            yield images[chosen], labels[chosen]

    def _first(self, count: int) -> HeldImages:
        """The first images of the split, as they are held."""
        whole: Any = self.whole
        return whole[0][:count] if whole else self._held(*next(self.data.batches("train", count)))[0]


class Batches(BatchesOf[Images, Labels, Batch]):
    """The same with numpy arrays."""

    def _held(self, images: Images, labels: Labels) -> tuple[Images, Labels]:
        return images, labels

    def _places(self, order: Integers) -> Integers:
        return order

    def _batch(self, images: Images, labels: Labels, epoch: int, step: int) -> Batch:
        draws = draw(self.how, len(images), (images.shape[1], images.shape[2]), self.seed, epoch, step)
        return Batch(images, labels, draws, np.uint32(mixed(self.seed, epoch, step, 1) % 2**32))

    def first_images(self, count: int) -> Images:
        """The first images of the split."""
        return self._first(count)


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


def _ended_early(data: Dataset, batches: int, size: int, count: int) -> DataError:
    """The error for a stream with fewer images than it said."""
    return DataError(
        f"{data.info.name}: its training split ends after {batches} batches of {size} images, but it should have {count} images"
    )

"""Batches on the device. A split that fits lives there as one tensor; a streamed one is read ahead, batch by batch.

Augmentation is batched, on the device; its chance is numpy's (``trainers.chance``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amla.datasets.base import Dataset, Images
from amla.spec.data import DatasetInfo, Split
from amla.spec.training import Augmentation, steps_per_epoch
from amla.trainers.batches import ended_early
from amla.trainers.chance import Draws, crop_padding, draw, mixed, order
from amla.trainers.torch.module import blank_squares

#: Images of a batch when nothing is trained.
EVALUATION_BATCH = 512


def to_tensor(images: Images, device: torch.device) -> Tensor:
    """Images (n, h, w, c) as (n, c, h, w) on the device, in channels-last memory, still in their own type."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return tensor.permute(0, 3, 1, 2)


class Normalise:
    """Pixels as networks see them: 8-bit ones divided by 255, then (x - mean) / std per channel."""

    def __init__(self, info: DatasetInfo, device: torch.device) -> None:
        self.mean = torch.tensor(info.mean, dtype=torch.float32, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(info.std, dtype=torch.float32, device=device).view(1, -1, 1, 1)

    def __call__(self, images: Tensor) -> Tensor:
        x = images.to(torch.float32)
        if images.dtype == torch.uint8:
            x = x / 255.0
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def augment(x: Tensor, how: Augmentation, draws: Draws) -> Tensor:
    """Normalised images (n, c, h, w) with the augmentation applied, each image by its own draw."""
    if draws.shifts is not None:
        x = _crop(x, crop_padding(how, (x.shape[2], x.shape[3])), torch.from_numpy(draws.shifts).to(x.device))
    if draws.mirrored is not None:
        x = torch.where(torch.from_numpy(draws.mirrored).to(x.device)[:, None, None, None], x.flip(3), x)
    if draws.centres is not None:
        x = blank_squares(x, how.cutout, torch.from_numpy(draws.centres))
    return x.contiguous(memory_format=torch.channels_last)


def _crop(x: Tensor, pixels: int, shifts: Tensor) -> Tensor:
    """The part of every image, padded by so many reflected pixels, that begins at its row and column."""
    count, _, height, width = x.shape
    padded = F.pad(x, (pixels,) * 4, mode="reflect")
    rows = shifts[0][:, None] + torch.arange(height, device=x.device)
    columns = shifts[1][:, None] + torch.arange(width, device=x.device)
    image = torch.arange(count, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Batches:
    """The training split as an endless row of augmented batches, from any step on."""

    def __init__(self, data: Dataset, batch_size: int, how: Augmentation, seed: int, device: torch.device) -> None:
        self.data, self.how, self.seed, self.device = data, how, seed, device
        self.count = data.info.sizes["train"]
        self.size = min(batch_size, self.count)
        self.per_epoch = steps_per_epoch(self.count, batch_size)
        self.normalise = Normalise(data.info, device)
        self.whole = None if data.streamed else _on_device(data, "train", device)

    def __call__(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (images, labels) from the step ``first`` on, without end. Errors: ``DataError``."""
        step = first
        while True:
            epoch, place = divmod(step, self.per_epoch)
            before = step
            for images, labels in self._epoch(epoch, place):
                draws = draw(self.how, len(images), (images.shape[2], images.shape[3]), self.seed, epoch, step)
                yield augment(self.normalise(images), self.how, draws), labels
                step += 1
            if step == before:
                raise ended_early(self.data, place, self.size, self.count)

    def first_images(self, count: int) -> Tensor:
        """The first images of the split, normalised, not augmented."""
        if self.whole is not None:
            return self.normalise(self.whole[0][:count])
        images, _ = next(self.data.batches("train", count))
        return self.normalise(to_tensor(images, self.device))

    def _epoch(self, epoch: int, place: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self.whole is None:
            batches = self.data.batches("train", self.size, seed=mixed(self.seed, epoch, 0))
            for index, (images, labels) in enumerate(batches):
                if place <= index < self.per_epoch:
                    yield to_tensor(images, self.device), torch.from_numpy(labels).to(self.device)
            return
        all_images, all_labels = self.whole
        places = torch.from_numpy(order(self.count, self.seed, epoch)).to(self.device)
        for index in range(place, self.per_epoch):
            chosen = places[index * self.size : (index + 1) * self.size]
            yield all_images[chosen], all_labels[chosen]


def evaluation_batches(data: Dataset, split: Split, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a split in its own order: normalised images and labels."""
    normalise = Normalise(data.info, device)
    for images, labels in data.batches(split, EVALUATION_BATCH):
        yield normalise(to_tensor(images, device)), torch.from_numpy(labels).to(device)


def _on_device(data: Dataset, split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    images, labels = data.arrays(split)
    return to_tensor(images, device), torch.from_numpy(labels).to(device)

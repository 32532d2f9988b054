"""Batches on the device. A split that fits lives there as one tensor; a streamed one is read ahead, batch by batch.

Augmentation is batched, on the device; its chance is numpy's (``trainers.chance``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amla.datasets.base import Dataset, Images, Labels
from amla.spec.data import DatasetInfo, Split
from amla.spec.training import Augmentation
from amla.trainers.batches import BatchesOf, Integers
from amla.trainers.chance import Draws, crop_padding, draw
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


class Batches(BatchesOf[Tensor, Tensor, tuple[Tensor, Tensor]]):
    """The training split as an endless row of augmented batches, from any step on."""

    def __init__(self, data: Dataset, batch_size: int, how: Augmentation, seed: int, device: torch.device) -> None:
        self.device, self.normalise = device, Normalise(data.info, device)
        super().__init__(data, batch_size, how, seed)

    def _held(self, images: Images, labels: Labels) -> tuple[Tensor, Tensor]:
        return to_tensor(images, self.device), torch.from_numpy(labels).to(self.device)

    def _places(self, order: Integers) -> Tensor:
        return torch.from_numpy(order).to(self.device)

    def _batch(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        draws = draw(self.how, len(images), (images.shape[2], images.shape[3]), self.seed, epoch, step)
        return augment(self.normalise(images), self.how, draws), labels

    def first_images(self, count: int) -> Tensor:
        """The first images of the split, normalised, not augmented."""
        return self.normalise(self._first(count))


def evaluation_batches(data: Dataset, split: Split, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over a split in its own order: normalised images and labels."""
    normalise = Normalise(data.info, device)
    for images, labels in data.batches(split, EVALUATION_BATCH):
        yield normalise(to_tensor(images, device)), torch.from_numpy(labels).to(device)

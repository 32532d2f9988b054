"""What all datasets here share: split a source by the spec, say what it is, hand out arrays or stream batches."""

from __future__ import annotations

import functools
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import psutil

from amla.datasets.ahead import read_ahead
from amla.datasets.base import Dataset, Images, Labels
from amla.datasets.pixels import moments
from amla.datasets.stratify import Rows, cut, subset
from amla.errors import DataError
from amla.spec.data import SPLITS, DatasetInfo, DatasetSpec, Split

#: Above so many bytes of training pixels, mean and deviation come from a sample. Fixed, not a share of the memory: the
#: same spec has to give the same numbers on every machine.
EXACT_BYTES = 256 * 2**20
SAMPLE = 2_000

# Images of one decoding task: enough to make a thread's errand worth while, few enough to share a batch out.
_CHUNK = 32


class Part(Protocol):
    """One part of a source. The labels (n,) are at hand; pixels are read by row, from several threads at once."""

    @property
    def labels(self) -> Labels: ...

    def read(self, rows: Rows) -> Images:
        """Images (rows, height, width, channels) of the source's shape and dtype."""


@dataclass(frozen=True)
class Source:
    """An opened source: its parts (``train``, perhaps ``valid`` and ``test``), and the shape of what they read."""

    parts: Mapping[Split, Part]
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    dtype: Literal["uint8", "float32"] = "uint8"
    flip: bool | None = None
    #: Threads that read at once. More than one only where images are large: small ones fight for the GIL, and two
    #: threads were measured to be slower than one on CIFAR-10.
    threads: int = 1

    @property
    def mirrored(self) -> bool:
        """Whether images may be mirrored. Where the source does not say: pictures in colour may, grey ones not."""
        return self.shape[2] >= 3 if self.flip is None else self.flip


def memory_limit() -> int:
    """Bytes that the decoded images of one dataset may take: ``AMLA_MEMORY_LIMIT`` (as ``800M`` or ``4G``), else a
    quarter of the memory that is free now."""
    text = os.environ.get("AMLA_MEMORY_LIMIT", "").strip().upper().removesuffix("B").removesuffix("I")
    if not text:
        return int(psutil.virtual_memory().available) // 4
    factor = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}.get(text[-1:], 1)
    try:
        return int(float(text if factor == 1 else text[:-1]) * factor)
    except (ValueError, OverflowError):
        raise DataError(f"AMLA_MEMORY_LIMIT={os.environ['AMLA_MEMORY_LIMIT']}: give bytes, or as 800M or 4G") from None


class SourceDataset(Dataset):
    """A dataset that opens a ``Source``; all the rest is decided here, by the spec.

    Opening and splitting happen in the constructor, so a bad source is a ``DataError`` there; an image that proves
    unreadable is one when its pixels are asked for. Arrays that are handed out are cached: copy before writing.

    Mean and deviation are those of the training split; of one above 256 MiB, those of 2,000 of its images drawn by the
    spec's seed.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        super().__init__(spec)
        self._source = self.source()
        self._rows = _share_out(self._source, spec)
        self._cache: dict[Split, tuple[Images, Labels]] = {}
        images = sum(len(rows) for _, rows in self._rows.values())
        self.streamed = images * self._image_bytes > memory_limit()

    @abstractmethod
    def source(self) -> Source:
        """Open the source: find its files, read its labels. Called once. Errors: ``DataError``."""

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self._source.shape)) * np.dtype(self._source.dtype).itemsize

    @functools.cached_property
    def info(self) -> DatasetInfo:
        """Shape, classes, sizes, mean and deviation. Cheap after the first call."""
        source = self._source
        mean, std = moments(self._training_pixels(), source.shape[2])
        return DatasetInfo(
            name=self.spec.name,
            shape=source.shape,
            classes=source.classes,
            sizes={split: len(self._rows[split][1]) for split in SPLITS},
            mean=mean,
            std=std,
            dtype=source.dtype,
            flip=source.mirrored,
        )

    def arrays(self, split: Split) -> tuple[Images, Labels]:
        """All of a split: images (n, height, width, channels) and labels (n,) int64, in the source's order.

        Errors: ``DataError`` for an unreadable image, and where the dataset is streamed.
        """
        if self.streamed:
            raise DataError(
                f"{self.spec.name} does not fit in memory ({memory_limit() / 2**20:,.0f} MiB are allowed): read it in "
                "batches, give a smaller image_size, or raise AMLA_MEMORY_LIMIT"
            )
        if split not in self._cache:
            part, rows = self._rows[split]
            images = np.empty((len(rows), *self._source.shape), self._source.dtype)
            start = 0
            for chunk in self._decoded(part, rows):
                images[start : start + len(chunk)] = chunk
                start += len(chunk)
            self._cache[split] = (images, part.labels[rows])
        return self._cache[split]

    def batches(self, split: Split, size: int, *, seed: int | None = None) -> Iterator[tuple[Images, Labels]]:
        """One pass over a split, ``size`` images at a time (the last batch may be smaller).

        In the order of ``arrays`` where ``seed`` is None, else shuffled by it; the same batches whether the dataset is
        streamed or not. A streamed dataset decodes two batches ahead.
        """
        if size < 1:
            raise ValueError(f"a batch of {size} images")
        part, rows = self._rows[split]
        order = np.arange(len(rows)) if seed is None else np.random.default_rng(seed).permutation(len(rows))
        if self.streamed:
            yield from self._streamed(part, rows[order], size)
            return
        images, labels = self.arrays(split)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield images[chosen], labels[chosen]

    def _streamed(self, part: Part, rows: Rows, size: int) -> Iterator[tuple[Images, Labels]]:
        # Chunks end where batches end, so that a batch is a whole number of them.
        threads = self._source.threads
        chunk = min(_CHUNK, -(-size // threads))
        starts = [at for batch in range(0, len(rows), size) for at in range(batch, min(batch + size, len(rows)), chunk)]
        tasks = (rows[at : min(at + chunk, at - at % size + size)] for at in starts)
        with closing(read_ahead(part.read, tasks, threads=threads, ahead=2 * -(-size // chunk))) as chunks:
            for batch in range(0, len(rows), size):
                chosen = rows[batch : batch + size]
                images = np.concatenate([next(chunks) for _ in range(-(-len(chosen) // chunk))])
                yield images, part.labels[chosen]

    def _decoded(self, part: Part, rows: Rows) -> Iterator[Images]:
        tasks = (rows[at : at + _CHUNK] for at in range(0, len(rows), _CHUNK))
        threads = self._source.threads
        return (
            map(part.read, tasks) if threads == 1 else read_ahead(part.read, tasks, threads=threads, ahead=4 * threads)
        )

    def _training_pixels(self) -> Iterator[Images]:
        part, rows = self._rows["train"]
        if len(rows) * self._image_bytes > EXACT_BYTES and len(rows) > SAMPLE:
            chosen = np.random.default_rng(self.spec.seed).choice(len(rows), SAMPLE, replace=False)
            yield from self._decoded(part, rows[np.sort(chosen)])
        elif self.streamed:
            yield from self._decoded(part, rows)
        else:
            yield self.arrays("train")[0]


def _share_out(source: Source, spec: DatasetSpec) -> dict[Split, tuple[Part, Rows]]:
    """For every split its part and the rows of it. Errors: ``DataError`` (one class, a class too small, ...)."""
    _check_classes(source, spec)
    parts = source.parts
    absent: tuple[Split, ...] = ("test", "valid")
    wanted = {"test": spec.test_fraction, "valid": spec.valid_fraction}
    fractions = {split: wanted[split] for split in absent if split not in parts}
    if sum(fractions.values()) >= 1.0:
        raise DataError(f"{spec.name}: test_fraction and valid_fraction leave nothing to train on: give smaller ones")
    train = parts["train"]
    shares = cut(train.labels, fractions, spec.seed)
    for split in fractions:
        if not len(shares[split]):
            raise DataError(
                f"{spec.name}: {len(train.labels)} training images of {len(source.classes)} classes are too few to "
                f"split off a {split} set: add images, or give a {split} split"
            )
    out: dict[Split, tuple[Part, Rows]] = {"train": (train, shares["train"])}
    for split in absent:
        own = parts.get(split)
        out[split] = (train, shares[split]) if own is None else (own, np.arange(len(own.labels)))
    return {split: (part, _limited(part, rows, source, spec)) for split, (part, rows) in out.items()}


def _limited(part: Part, rows: Rows, source: Source, spec: DatasetSpec) -> Rows:
    if spec.limit is None:
        return rows
    if spec.limit < len(source.classes):
        raise DataError(f"{spec.name}: limit {spec.limit} is less than one image for each of its classes: raise it")
    return rows[subset(part.labels[rows], spec.limit, spec.seed)]


def _check_classes(source: Source, spec: DatasetSpec) -> None:
    name, classes = spec.name, source.classes
    for split, part in source.parts.items():
        if not len(part.labels):
            raise DataError(f"{name}: no images in its {split} split: add some")
        if part.labels.min() < 0 or part.labels.max() >= len(classes):
            raise DataError(f"{name}: a label of its {split} split is none of the {len(classes)} classes: mend it")
    if len(classes) < 2:
        raise DataError(f"{name}: only one class ({''.join(classes)}); at least two are needed to classify")
    if len(set(classes)) < len(classes):
        raise DataError(f"{name}: two classes have the same name: rename one")
    empty = np.flatnonzero(np.bincount(source.parts["train"].labels, minlength=len(classes)) == 0)
    if len(empty):
        raise DataError(f"{name}: class {classes[empty[0]]!r} has no training image: add some, or remove the class")

"""Sources that are arrays: digits, Fashion-MNIST, CIFAR, NPZ files, arrays from Python."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from amla.datasets.ahead import LARGE_AREA, workers
from amla.datasets.base import Images, Labels
from amla.datasets.pixels import resized
from amla.datasets.source import Source, SourceDataset
from amla.datasets.stratify import Rows
from amla.errors import DataError
from amla.spec.data import DatasetSpec, Split

#: Images and labels as a source holds them: see ``as_images`` and ``as_labels`` for what they may be.
Pair = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Raw:
    """The arrays of a source before AMLA's split: images (n, h, w) or (n, h, w, c), and labels (n,) that count classes.

    ``valid`` and ``test`` are None where the source has no such split. ``flip``: whether a mirrored image still shows
    the same thing; None leaves it to a rule (colour: yes, grey: no).
    """

    train: Pair
    classes: Sequence[str]
    valid: Pair | None = None
    test: Pair | None = None
    flip: bool | None = None


class InMemoryDataset(SourceDataset):
    """A dataset whose source is arrays: a subclass only loads them. Streams where a larger ``image_size`` asks for more
    than the memory holds."""

    @abstractmethod
    def load(self) -> Raw:
        """Read the arrays. Called once. Errors: ``DataError`` that names the file and what to do."""

    def source(self) -> Source:
        return array_source(self.load(), self.spec)


@dataclass(frozen=True)
class ArrayPart:
    """Images (n, h, w, c) in memory, brought to ``side`` pixels when they are read."""

    images: Images
    labels: Labels
    side: int | None = None

    def read(self, rows: Rows) -> Images:
        chosen = self.images[rows]
        return chosen if self.side is None else resized(chosen, self.side)


def array_source(raw: Raw, spec: DatasetSpec) -> Source:
    """A source over arrays. Errors: ``DataError`` where they are no images, or splits differ in shape or dtype."""
    given: dict[Split, Pair | None] = {"train": raw.train, "valid": raw.valid, "test": raw.test}
    parts: dict[Split, ArrayPart] = {}
    for split, pair in given.items():
        if pair is not None:
            images = as_images(pair[0], f"{spec.name}, {split}")
            if len(images) != len(pair[1]):
                raise DataError(f"{spec.name}, {split}: {len(images)} images and {len(pair[1])} labels: give as many")
            parts[split] = ArrayPart(images, pair[1].astype(np.int64), spec.image_size)
    kinds = {(part.images.shape[1:], part.images.dtype.name) for part in parts.values()}
    if len(kinds) > 1:
        raise DataError(f"{spec.name}: the splits differ in image shape or type {sorted(kinds)}: make them alike")
    shape, dtype = kinds.pop()
    height, width = (spec.image_size, spec.image_size) if spec.image_size else shape[:2]
    kind: Literal["uint8", "float32"] = "uint8" if dtype == "uint8" else "float32"
    threads = workers() if height * width >= LARGE_AREA else 1
    return Source(parts, tuple(raw.classes), (height, width, shape[2]), kind, raw.flip, threads)


def as_images(array: npt.ArrayLike, what: str) -> Images:
    """Images as (n, h, w, c) uint8 or float32: a missing channel axis is added, whole numbers within 0..255 become
    uint8, truth values 0 and 255, every other number float32. Errors: ``DataError``."""
    images = np.asarray(array)
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise DataError(f"{what}: images of shape {images.shape}; wanted (n, height, width) or (n, height, width, c)")
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind in "iu" and images.size and images.min() >= 0 and images.max() <= 255:
        return images.astype(np.uint8)
    if images.dtype.kind not in "iuf":
        raise DataError(f"{what}: images of type {images.dtype}; wanted uint8 or floating-point numbers")
    with np.errstate(over="ignore"):
        floats = images.astype(np.float32)
    if not np.isfinite(floats).all():
        raise DataError(f"{what}: there are pixels that are not finite numbers: replace them")
    return floats


def as_labels(
    labels: Sequence[npt.NDArray[Any]], what: str, classes: Sequence[str] | None = None
) -> tuple[list[Labels], tuple[str, ...]]:
    """Labels of all splits as class numbers, and the classes' names.

    With ``classes``, whole numbers count them and anything else must be one of them; without, the classes are the
    distinct labels, sorted. Errors: ``DataError`` (not one label an image, missing values, continuous, unsortable).
    """
    values = [_plain(array, what) for array in labels]
    if classes is not None and all(isinstance(value, int) for split in values for value in split):
        wrong = next((value for split in values for value in split if not 0 <= value < len(classes)), None)
        if wrong is not None:
            raise DataError(f"{what}: label {wrong!r}, but there are {len(classes)} classes, counted from 0: mend it")
        return [np.array(split, np.int64) for split in values], tuple(classes)
    try:
        distinct = classes or sorted({value for split in values for value in split})
    except TypeError:
        raise DataError(f"{what}: labels of several kinds, which cannot be sorted: make all numbers or text") from None
    number = {value: index for index, value in enumerate(distinct)}
    stranger = next((value for split in values for value in split if value not in number), None)
    if stranger is not None:
        raise DataError(f"{what}: label {stranger!r} is none of the classes {', '.join(map(str, distinct))}: mend it")
    numbered = [np.array([number[value] for value in split], np.int64) for split in values]
    return numbered, tuple(str(value) for value in distinct)


def _plain(array: npt.NDArray[Any], what: str) -> list[Any]:
    """Labels as Python's own values; floating-point numbers without a fraction as whole ones."""
    if array.ndim != 1:
        raise DataError(f"{what}: labels of shape {array.shape}; wanted one label an image (n,): argmax one-hot rows")
    values: list[Any] = array.tolist()
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (array != np.floor(array)).any():
            raise DataError(f"{what}: labels that are not whole numbers; wanted one class an image, as number or text")
        return [int(value) for value in values]
    if any(value is None or (isinstance(value, float) and math.isnan(value)) for value in values):
        raise DataError(f"{what}: missing labels: remove those images, or label them")
    return values

"""Sources that are encoded images: folders of files, Parquet, Hugging Face datasets. Decoded when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Protocol

import numpy as np

from amla.datasets.ahead import LARGE_AREA, workers
from amla.datasets.base import Images, Labels
from amla.datasets.pixels import Header, decode, header
from amla.datasets.source import Source, SourceDataset
from amla.datasets.stratify import Rows
from amla.errors import DataError
from amla.spec.data import DatasetSpec, Split

#: So many headers are looked at to choose a size and to tell grey from colour.
HEADERS = 1_000
#: Images are not made larger than this where nobody asked for a size.
LARGEST = 224


class Files(Protocol):
    """Encoded images by row; called from several threads at once."""

    def open(self, rows: Rows) -> Iterator[tuple[str, str | bytes]]:
        """For each row what to call it in a message, and a path or the bytes of a file."""


@dataclass(frozen=True)
class Encoded:
    """One part of a source before AMLA's split: files, and their labels (n,), which count the classes."""

    files: Files
    labels: Labels


class EncodedDataset(SourceDataset):
    """A dataset whose source is encoded images: a subclass only says which, with their labels.

    Images become squares of ``image_size`` pixels; by default of the median short side of at most 1,000 evenly chosen
    training images, and 224 at most. They are grey if all of those are, else RGB.
    """

    @abstractmethod
    def load(self) -> tuple[Mapping[Split, Encoded], Sequence[str]]:
        """Encoded images by split, and the names of the classes. Called once. Errors: ``DataError``."""

    def source(self) -> Source:
        parts, classes = self.load()
        return encoded_source(parts, classes, self.spec)


@dataclass(frozen=True)
class DecodedPart:
    """Encoded images, decoded when they are read."""

    encoded: Encoded
    side: int
    channels: int

    @property
    def labels(self) -> Labels:
        return self.encoded.labels

    def read(self, rows: Rows) -> Images:
        out = np.empty((len(rows), self.side, self.side, self.channels), np.uint8)
        for place, (name, content) in enumerate(self.encoded.files.open(rows)):
            out[place] = decode(name, content, self.side, self.channels)
        return out


def encoded_source(parts: Mapping[Split, Encoded], classes: Sequence[str], spec: DatasetSpec) -> Source:
    """A source over encoded images, whose size and colour are chosen by their headers. Errors: ``DataError``."""
    train = parts["train"]
    if not len(train.labels):
        raise DataError(f"{spec.name}: no training images: add some")
    looked_at = [header(name, content) for name, content in train.files.open(_evenly(len(train.labels)))]
    side = spec.image_size or _usual_side(looked_at)
    channels = 1 if all(found.grey for found in looked_at) else 3
    decoded = {split: DecodedPart(part, side, channels) for split, part in parts.items()}
    area = median_low(found.width * found.height for found in looked_at)
    threads = workers() if area >= LARGE_AREA else 1
    return Source(decoded, tuple(classes), (side, side, channels), threads=threads)


def _usual_side(headers: Sequence[Header]) -> int:
    return min(LARGEST, median_low(min(found.width, found.height) for found in headers))


def _evenly(count: int) -> Rows:
    return np.unique(np.linspace(0, count - 1, min(count, HEADERS)).astype(np.int64))

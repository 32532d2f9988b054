"""The contract of a dataset: numpy out, so that every trainer can use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from amla.spec.data import DatasetInfo, DatasetSpec, Split

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Dataset(ABC):
    """One source of labelled images, already split.

    A plug-in is a class with this constructor, registered under the entry point group ``amla.datasets``. Everything is
    decided by the spec: the same spec gives the same arrays. Errors: ``DataError`` (missing, corrupt, one class).
    """

    #: True where the images do not fit in memory: only ``batches`` may be called then.
    streamed: bool = False
    #: False where it is a table of results, which only a trainer that looks networks up can use.
    has_images: ClassVar[bool] = True

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    @property
    @abstractmethod
    def info(self) -> DatasetInfo:
        """Shape, classes, sizes, mean and deviation. Cheap after the first call."""

    @abstractmethod
    def arrays(self, split: Split) -> tuple[Images, Labels]:
        """All of a split: images (n, height, width, channels), uint8 or float32, and labels (n,) int64."""

    @abstractmethod
    def batches(self, split: Split, size: int, *, seed: int | None = None) -> Iterator[tuple[Images, Labels]]:
        """One pass over a split, ``size`` images at a time (the last batch may be smaller).

        In a fixed order where ``seed`` is None, else shuffled by it.
        """

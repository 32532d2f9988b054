"""The training split in two, for a procedure that learns weights by one part and something else by the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from amla.datasets.base import Dataset, Images, Labels
from amla.datasets.stratify import Rows, cut
from amla.errors import TrialFailure
from amla.spec.data import DatasetInfo, Split


class Part(Dataset):
    """A dataset with some rows of its training split only."""

    def __init__(self, whole: Dataset, rows: Rows) -> None:
        super().__init__(whole.spec)
        self.whole, self.rows = whole, rows

    @property
    def info(self) -> DatasetInfo:
        sizes = {**self.whole.info.sizes, "train": len(self.rows)}
        return self.whole.info.model_copy(update={"sizes": sizes})

    def arrays(self, split: Split) -> tuple[Images, Labels]:
        images, labels = self.whole.arrays(split)
        return (images[self.rows], labels[self.rows]) if split == "train" else (images, labels)

    def batches(self, split: Split, size: int, *, seed: int | None = None) -> Iterator[tuple[Images, Labels]]:
        if split != "train":
            yield from self.whole.batches(split, size, seed=seed)
            return
        images, labels = self.arrays(split)
        order = np.arange(len(labels)) if seed is None else np.random.default_rng(seed).permutation(len(labels))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield images[chosen], labels[chosen]


def parted(data: Dataset, share: float, seed: int, procedure: str) -> tuple[Dataset, Dataset]:
    """(all but ``share`` of the training split, that share), stratified by class.

    Errors: ``TrialFailure`` where the images do not fit in memory, or are too few to be shared out.
    """
    if data.streamed:
        raise TrialFailure(
            "data", f"{procedure} shares the training images out, which must fit in memory: set limit or image_size"
        )
    rows = cut(data.arrays("train")[1], {"valid": share}, seed)
    if not all(map(len, rows.values())):
        raise TrialFailure("data", f"{procedure} shares the training images out, and there are too few")
    return Part(data, rows["train"]), Part(data, rows["valid"])

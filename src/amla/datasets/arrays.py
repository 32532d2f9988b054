"""Arrays from Python: what ``amla.search(X, y)`` and ``amla.ImageClassifier`` make a dataset of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amla.datasets.memory import InMemoryDataset, Pair, Raw, as_images, as_labels
from amla.datasets.npz import write_npz
from amla.errors import DataError
from amla.spec.data import DatasetSpec, Split

#: Images (n, h, w) or (n, h, w, c), and one label an image: numbers, text, truth values.
Given = tuple[npt.ArrayLike, npt.ArrayLike]


class ArrayDataset(InMemoryDataset):
    """Arrays of a caller, split by the spec as any dataset is.

    Images: uint8, or numbers that become float32 (whole numbers within 0..255 become uint8). Labels: anything that can
    be sorted; a class is called ``str(label)``, or by ``classes`` which whole-number labels count. ``valid`` and
    ``test``: pairs of images and labels that take the place of a cut. Errors: ``DataError``.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        classes: Sequence[str] | None = None,
        valid: Given | None = None,
        test: Given | None = None,
        flip: bool | None = None,
    ) -> None:
        given: dict[Split, Given | None] = {"train": (images, labels), "valid": valid, "test": test}
        present = {split: pair for split, pair in given.items() if pair is not None}
        numbers, self._classes = as_labels([_labels(pair[1]) for pair in present.values()], spec.name, classes)
        self._pairs: dict[Split, Pair] = {
            split: (as_images(pair[0], f"{spec.name}, {split}"), own)
            for (split, pair), own in zip(present.items(), numbers, strict=True)
        }
        self._flip = flip
        super().__init__(spec)

    def load(self) -> Raw:
        pairs = self._pairs
        return Raw(pairs["train"], self._classes, pairs.get("valid"), pairs.get("test"), self._flip)

    def save(self, path: str | Path) -> DatasetSpec:
        """Write the arrays as they came (not split) to an NPZ file, and return the spec under which ``npz:PATH`` gives
        this very dataset to another process: the same pixels, splits and class names. Errors: ``DataError``."""
        target = Path(path).absolute()
        if target.suffix != ".npz":
            raise DataError(f"{target}: give it a name that ends in .npz")
        write_npz(target, self._pairs, self._classes, self._flip)
        return self.spec.model_copy(update={"name": f"npz:{target}", "data_dir": None})


def _labels(labels: npt.ArrayLike) -> npt.NDArray[Any]:
    # A list of mixed kinds would turn into text without a word: [1, "a"] is a mistake to report.
    if isinstance(labels, list | tuple) and len({type(label) for label in labels}) > 1:
        return np.array(labels, dtype=object)
    return np.asarray(labels)

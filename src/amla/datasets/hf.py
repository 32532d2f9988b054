"""``hf:NAME``: a dataset of Hugging Face, by the library ``datasets``: from the hub, its cache, or a local directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from amla import registry
from amla.datasets.base import Labels
from amla.datasets.encoded import Encoded, EncodedDataset
from amla.datasets.memory import as_labels
from amla.datasets.stratify import Rows
from amla.errors import DataError, PluginError
from amla.spec.data import Split

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
#: What datasets call their splits -> what AMLA does.
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "validation": "valid",
    "valid": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
}


class HuggingFace(EncodedDataset):
    """NAME is that of a dataset on the hub (``NAME:CONFIGURATION`` for one of several), or a local directory: of images
    or Parquet files, or what ``save_to_disk`` wrote.

    The library keeps it on disk as memory-mapped Arrow files, from which batches are streamed in any order where the
    decoded images do not fit in memory. Needs an image column and a label column: see ``parquet:PATH``.
    """

    def load(self) -> tuple[Mapping[Split, Encoded], Sequence[str]]:
        argument = self.spec.argument
        if not argument:
            raise DataError("hf: which dataset? write hf:NAME, as hf:uoft-cs/cifar10, or hf:DIRECTORY")
        local = Path(argument).expanduser()
        if any((local / mark).is_file() for mark in ("dataset_dict.json", "state.json")):
            return encoded_parts(opened(str(local), self.spec.name, saved=True), self.spec.name)
        if local.is_dir():
            return encoded_parts(opened(str(local), self.spec.name), self.spec.name)
        name, _, configuration = argument.partition(":")
        return encoded_parts(opened(name, self.spec.name, name=configuration or None), self.spec.name)


@dataclass(frozen=True)
class ArrowFiles:
    """The image column of an opened dataset, not decoded: its bytes, or paths, by row."""

    column: Any
    key: str
    name: str

    def open(self, rows: Rows) -> Iterator[tuple[str, str | bytes]]:
        for row, cell in zip(rows, self.column[rows.tolist()][self.key], strict=True):
            content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
            called = f"{self.name}, image {row}" + (f" ({path})" if path else "")
            encoded = path if content is None else content
            if encoded is None:
                raise DataError(f"{called}: there is no image in this row: remove it")
            if not isinstance(encoded, str | bytes):
                raise DataError(f"{self.name}: column {self.key!r} holds no image files (PNG, JPEG, ...): encode them")
            yield called, encoded


def opened(path: str, what: str, *, saved: bool = False, **options: Any) -> Any:
    """The ``DatasetDict`` of a path or name; ``options`` are those of ``load_dataset``.

    Errors: ``DataError`` that calls the dataset ``what``, ``PluginError`` without the library.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise PluginError(registry.missing(error.name or "datasets", f"dataset {what!r}")) from error
    library = logging.getLogger("datasets")
    level = library.level
    library.setLevel(logging.CRITICAL)  # it logs what it raises, and what it raises is said here
    try:
        found = datasets.load_from_disk(path) if saved else datasets.load_dataset(path, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise DataError(f"{what}: cannot be opened ({reason}): check the name, the files and the network") from error
    finally:
        library.setLevel(level)
    return found if isinstance(found, datasets.DatasetDict) else {"train": found}


def encoded_parts(found: Mapping[str, Any], name: str) -> tuple[Mapping[Split, Encoded], Sequence[str]]:
    """Encoded images by split out of a ``DatasetDict``, and the classes that have images. A split without labels (-1,
    as the tests of contests have) counts as absent. Errors: ``DataError`` (no such column, no training split)."""
    splits = _splits(found, name)
    image, label = _columns(splits["train"], name)
    names = getattr(splits["train"].features[label], "names", None)
    raw = {split: _labels(dataset, label, name) for split, dataset in splits.items()}
    raw = {split: own for split, own in raw.items() if split == "train" or not _unlabelled(own)}
    numbers, classes = as_labels(list(raw.values()), name, names)
    numbers, classes = _present(numbers, classes)
    files = {split: _files(splits[split], image, f"{name}, {split}") for split in raw}
    return {split: Encoded(files[split], own) for split, own in zip(raw, numbers, strict=True)}, classes


def _splits(found: Mapping[str, Any], name: str) -> dict[Split, Any]:
    if len(found) == 1:
        return {"train": next(iter(found.values()))}
    splits = {SPLIT_NAMES[own]: dataset for own, dataset in found.items() if own in SPLIT_NAMES}
    if "train" not in splits:
        raise DataError(f"{name}: has the splits {', '.join(found)}; one called train is needed")
    return splits


def _columns(dataset: Any, name: str) -> tuple[str, str]:
    """The image column and the label column: by name, else the first of that type."""
    features = dataset.features
    by_type = {
        kind: [key for key in features if type(features[key]).__name__ == kind] for kind in ("Image", "ClassLabel")
    }
    image = next((key for key in (*IMAGE_COLUMNS, *by_type["Image"]) if key in features), None)
    label = next((key for key in (*LABEL_COLUMNS, *by_type["ClassLabel"]) if key in features), None)
    if image is None or label is None:
        wanted = f"images ({' or '.join(IMAGE_COLUMNS)})" if image is None else f"labels ({', '.join(LABEL_COLUMNS)})"
        raise DataError(f"{name}: no column of {wanted} among {', '.join(features)}: rename one")
    return image, label


def _files(dataset: Any, image: str, name: str) -> ArrowFiles:
    import datasets

    column = dataset.select_columns([image])
    if isinstance(column.features[image], datasets.Image):
        column = column.cast_column(image, datasets.Image(decode=False))
    return ArrowFiles(column, image, name)


def _labels(dataset: Any, label: str, name: str) -> Any:
    values = dataset.select_columns([label]).with_format("arrow")[:].column(label)
    if values.null_count == len(values) and len(values):
        return np.full(len(values), -1)
    if values.null_count:
        raise DataError(f"{name}: {values.null_count} rows of column {label!r} are empty: label or remove them")
    return values.to_numpy()


def _unlabelled(labels: Any) -> bool:
    return labels.dtype.kind == "i" and len(labels) > 0 and bool((labels == -1).all())


def _present(numbers: Sequence[Labels], classes: Sequence[str]) -> tuple[list[Labels], tuple[str, ...]]:
    """Leave out classes that have no image in any split: a sub-set of a dataset keeps the names of the whole."""
    used = np.bincount(np.concatenate(numbers), minlength=len(classes)) > 0
    renumbered = np.cumsum(used) - 1
    return [renumbered[own].astype(np.int64) for own in numbers], tuple(np.array(classes, object)[used].tolist())

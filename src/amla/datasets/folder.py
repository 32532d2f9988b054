"""``folder:PATH``: a folder of images for each class, perhaps below ``train``, ``valid`` and ``test``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from amla.datasets.encoded import Encoded, EncodedDataset
from amla.datasets.files import argument_path
from amla.datasets.pixels import header
from amla.datasets.stratify import Rows
from amla.errors import DataError
from amla.spec.data import Split

SPLIT_FOLDERS: dict[str, Split] = {
    "train": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}

# What file managers leave behind without a leading dot.
_LITTER = frozenset({"Thumbs.db", "desktop.ini"})


class Folder(EncodedDataset):
    """The classes are the sub-folders of PATH, sorted; or of ``PATH/train``, with ``valid`` (``val``) and ``test``
    beside it. Images of any size and any kind that Pillow reads, in sub-folders too. Hidden files are ignored.

    Streamed where the decoded images do not fit in memory. Errors: ``DataError`` that names the file.
    """

    def load(self) -> tuple[Mapping[Split, Encoded], Sequence[str]]:
        root = argument_path(self.spec, "a folder with a sub-folder of images for each class")
        if not root.is_dir():
            raise DataError(f"{root}: not a folder; wanted one with a sub-folder of images for each class")
        homes = split_folders(root)
        classes = _subfolders(homes["train"])
        if not classes:
            raise DataError(f"{homes['train']}: no sub-folders; put the images of each class in one named after it")
        return {split: _part(home, classes) for split, home in homes.items()}, classes


@dataclass(frozen=True)
class FileList:
    """Paths of image files by row."""

    paths: Sequence[str]

    def open(self, rows: Rows) -> Iterator[tuple[str, str | bytes]]:
        for row in rows:
            yield self.paths[row], self.paths[row]


def split_folders(root: Path) -> dict[Split, Path]:
    """The folder of each split: ``root`` itself for ``train`` unless its sub-folders are called as splits are."""
    names = _subfolders(root)
    if "train" not in names or not set(names) <= set(SPLIT_FOLDERS):
        return {"train": root}
    homes: dict[Split, Path] = {}
    for name in names:
        split = SPLIT_FOLDERS[name]
        if split in homes:
            raise DataError(f"{root}: both {homes[split].name} and {name} are there: keep one {split} folder")
        homes[split] = root / name
    return homes


def _subfolders(home: Path) -> list[str]:
    try:
        with os.scandir(home) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{home}: cannot be read ({error.strerror})") from None


def _part(home: Path, classes: Sequence[str]) -> Encoded:
    _check_beside(home)
    stranger = next((name for name in _subfolders(home) if name not in classes), None)
    if stranger is not None:
        raise DataError(f"{home / stranger}: no such class in the training folder: add it there, or remove it here")
    paths: list[str] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        if (home / name).is_dir():
            found = list(_images(home / name))
            paths += found
            labels += [number] * len(found)
    return Encoded(FileList(paths), np.array(labels, np.int64))


def _check_beside(home: Path) -> None:
    """Notes may lie beside the class folders; an image there has no class."""
    extensions = _extensions()
    for path in sorted(home.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() in extensions:
            raise DataError(f"{path}: an image outside of the class folders: move it into one, or remove it")


def _images(folder: Path) -> Iterator[str]:
    """Image files below a folder, sorted by path. Errors: ``DataError`` that names a file which is none."""
    extensions = _extensions()
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith(".") or name in _LITTER:
                continue
            path = os.path.join(place, name)
            if os.path.splitext(name)[1].lower() not in extensions:
                # It may be an image under another name; only its content can tell.
                header(path, path)
            yield path


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _extensions() -> frozenset[str]:
    """Suffixes (lower case, with the dot) of the formats that Pillow opens."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)

"""``npz:PATH``: arrays in a file of numpy's. No pickled objects are read, ever."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amla.datasets.files import argument_path
from amla.datasets.memory import InMemoryDataset, Pair, Raw, as_labels
from amla.errors import DataError
from amla.spec.data import SPLITS, Split

Arrays = Mapping[str, npt.NDArray[Any]]


class Npz(InMemoryDataset):
    """Keys: ``x_train, y_train [, x_valid, y_valid] [, x_test, y_test]``, or ``images, labels``; and perhaps
    ``classes`` (names, counted by whole-number labels) and ``flip`` (a truth value).

    Images (n, h, w) or (n, h, w, c); labels (n,), numbers or text.
    """

    def load(self) -> Raw:
        path = argument_path(self.spec, "a file")
        arrays = read_npz(path)
        pairs = _pairs(arrays, path)
        names = [str(name) for name in arrays["classes"].tolist()] if "classes" in arrays else None
        labels, classes = as_labels([pair[1] for pair in pairs.values()], str(path), names)
        numbered: dict[Split, Pair] = {
            split: (pair[0], own) for (split, pair), own in zip(pairs.items(), labels, strict=True)
        }
        flip = bool(arrays["flip"]) if "flip" in arrays else None
        return Raw(numbered["train"], classes, numbered.get("valid"), numbered.get("test"), flip)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file. Errors: ``DataError`` (missing, corrupt, pickled objects)."""
    try:
        # Opened here and not by numpy, which leaves a file open that proves to be no archive.
        with path.open("rb") as file:
            opened = np.load(file, allow_pickle=False)
            if not isinstance(opened, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: a single array; wanted an .npz with images and labels (numpy.savez)")
            with opened:
                return {key: opened[key] for key in opened.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error):
            reason = "it holds pickled objects, which AMLA does not read; save labels as numbers or as text arrays"
        else:
            reason = f"{str(error).splitlines()[0] if str(error) else 'truncated'}; save it again with numpy.savez"
        raise DataError(f"{path}: not a readable NPZ file: {reason}") from None


def write_npz(path: Path, pairs: Mapping[Split, Pair], classes: tuple[str, ...], flip: bool | None) -> None:
    """Write what ``Npz`` reads back as the same dataset. The file appears whole or not at all."""
    arrays: dict[str, npt.NDArray[Any]] = {"classes": np.array(classes, np.str_)}
    for split, (images, labels) in pairs.items():
        arrays |= {f"x_{split}": images, f"y_{split}": labels}
    if flip is not None:
        arrays["flip"] = np.array(flip)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        unfinished.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}): give another place") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _pairs(arrays: Arrays, path: Path) -> dict[Split, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    if "images" in arrays and "labels" in arrays:
        return {"train": (arrays["images"], arrays["labels"])}
    out = {
        split: (arrays[f"x_{split}"], arrays[f"y_{split}"])
        for split in SPLITS
        if f"x_{split}" in arrays and f"y_{split}" in arrays
    }
    if "train" not in out:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path}: holds {found}; wanted the arrays x_train and y_train, or images and labels")
    return out

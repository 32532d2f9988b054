"""``parquet:PATH``: images and labels in Parquet files, in the layout of Hugging Face."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from amla.datasets.encoded import Encoded, EncodedDataset, encoded_source
from amla.datasets.files import argument_path
from amla.datasets.hf import encoded_parts, opened
from amla.datasets.source import Source
from amla.errors import DataError
from amla.spec.data import DatasetSpec, Split

_SPLIT = re.compile(r"(train|valid|val|dev|test)")
_SPLITS: dict[str, Split] = {"train": "train", "valid": "valid", "val": "valid", "dev": "valid", "test": "test"}


class Parquet(EncodedDataset):
    """PATH is a file, or a directory of files whose names begin with ``train``, ``valid`` (``val``, ``dev``) or
    ``test``; where no name does, all are training data.

    Columns: ``image`` or ``img`` (the bytes of an image file, or ``{bytes, path}``) and ``label``, ``labels`` or
    ``fine_label``. Class names come from the schema's metadata if it has them, else they are the labels themselves.
    Read through ``datasets``, which keeps a memory-mapped copy in its cache.
    """

    def load(self) -> tuple[Mapping[Split, Encoded], Sequence[str]]:
        path = argument_path(self.spec, "a Parquet file, or a directory of them")
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        if not files:
            raise DataError(f"{path}: no Parquet files in this directory (train.parquet, test.parquet, ...)")
        return _load(files, self.spec)


def parquet_source(files: Sequence[Path], spec: DatasetSpec) -> Source:
    """A source over Parquet files. Errors: ``DataError``, ``PluginError`` without the library ``datasets``."""
    parts, classes = _load(files, spec)
    return encoded_source(parts, classes, spec)


def _load(files: Sequence[Path], spec: DatasetSpec) -> tuple[Mapping[Split, Encoded], Sequence[str]]:
    by_split = {split: [str(file) for file in own] for split, own in split_files(files).items()}
    return encoded_parts(opened("parquet", spec.name, data_files=by_split), spec.name)


def split_files(files: Sequence[Path]) -> dict[Split, list[Path]]:
    """Which files are which split, by their names. Errors: ``DataError`` for a file that is none among others."""
    found = [(file, _SPLIT.match(file.name.lower())) for file in files]
    if not any(match for _, match in found) or len(files) == 1:
        return {"train": list(files)}
    out: dict[Split, list[Path]] = {}
    for file, match in found:
        if match is None:
            raise DataError(f"{file}: train, valid or test? Let its name begin with one of them, or move it away")
        out.setdefault(_SPLITS[match[1]], []).append(file)
    if "train" not in out:
        raise DataError(f"{files[0].parent}: no training file; one whose name begins with train is needed")
    return out

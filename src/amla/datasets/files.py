"""Where the files of a dataset are: a directory of the user's, a folder of the system, our cache, else a download."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pooch

from amla.errors import DataError
from amla.spec.data import DatasetSpec


def argument_path(spec: DatasetSpec, what: str) -> Path:
    """The existing path behind the colon of ``folder:PATH``; ``what`` says what it should be. Errors: ``DataError``."""
    if not spec.argument:
        raise DataError(f"{spec.name}: which one? write {spec.plugin}:PATH, PATH being {what}")
    path = Path(spec.argument).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or directory; {spec.plugin}:PATH needs {what}")
    return path


def refuse_argument(spec: DatasetSpec) -> None:
    """A dataset that is a single one takes no ``:ARGUMENT``. Errors: ``DataError``."""
    if spec.argument is not None:
        raise DataError(f"{spec.name}: {spec.plugin} takes nothing behind a colon; its place is given by --data-dir")


@dataclass(frozen=True)
class Wanted:
    """The files of a well-known dataset: what it is called, where it may lie, and where it can be had."""

    name: str
    #: Whether a directory holds the dataset.
    holds: Callable[[Path], bool]
    #: What a directory must hold, for the message.
    contents: str
    base_url: str
    #: File to download -> its checksum, as ``md5:...``.
    downloads: Mapping[str, str]
    system: Sequence[Path] = ()


def cache_dir() -> Path:
    """Where downloads are kept: ``datasets`` in the user's cache directory of AMLA."""
    return platformdirs.user_cache_path("amla") / "datasets"


def locate(wanted: Wanted, spec: DatasetSpec) -> Path:
    """The directory that holds a well-known dataset.

    ``data_dir`` (or its sub-folder of the dataset's name) if it is given: nothing else then. Else ``AMLA_DATA_DIR``
    likewise, the system's folder, the cache, and last a download into the cache. Errors: ``DataError``.
    """
    if spec.data_dir is not None:
        given = Path(spec.data_dir).expanduser()
        for place in (given / wanted.name, given):
            if wanted.holds(place):
                return place
        raise DataError(f"{given}: no {wanted.name} here; --data-dir must hold {wanted.contents}")
    places = [*wanted.system, cache_dir() / wanted.name]
    if root := os.environ.get("AMLA_DATA_DIR"):
        places = [Path(root).expanduser() / wanted.name, Path(root).expanduser(), *places]
    for place in places:
        if wanted.holds(place):
            return place
    return _download(wanted)


def _download(wanted: Wanted) -> Path:
    """Fetch all files into the cache, with a progress bar, each checked against its checksum.

    ``AMLA_DATASETS_URL`` names a mirror: files are then fetched from ``URL/DATASET/FILE``.
    """
    mirror = os.environ.get("AMLA_DATASETS_URL")
    base = f"{mirror.rstrip('/')}/{wanted.name}" if mirror else wanted.base_url.rstrip("/")
    target = cache_dir() / wanted.name
    # Its own line about every download goes to stderr unasked; the progress bar says as much.
    pooch.get_logger().setLevel(logging.WARNING)
    for file, checksum in wanted.downloads.items():
        try:
            pooch.retrieve(f"{base}/{file}", checksum, fname=file, path=target, progressbar=True)
        except OSError as error:  # the errors of requests are such, as are those of a full or read-only disk
            raise DataError(
                f"{wanted.name} cannot be downloaded from {base} ({type(error).__name__}): "
                f"give a directory that holds {wanted.contents} by --data-dir or AMLA_DATA_DIR"
            ) from error
        except ValueError as error:
            raise DataError(
                f"{base}/{file}: what was downloaded has another checksum than it should (truncated or tampered with): "
                "try again, or give the files by --data-dir"
            ) from error
    return target

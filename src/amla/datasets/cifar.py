"""``cifar10`` and ``cifar100``: 50,000 + 10,000 colour pictures of 32x32, in the binary version (no pickles)."""

from __future__ import annotations

import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np

from amla.datasets.files import Wanted, cache_dir, locate, refuse_argument
from amla.datasets.memory import Pair, Raw, array_source
from amla.datasets.source import Source, SourceDataset
from amla.errors import DataError
from amla.spec.data import DatasetSpec

PIXELS = 32 * 32 * 3


@dataclass(frozen=True)
class Layout:
    """What the files of one of the two are called, and how a record begins: with ``labels`` bytes, the last of which is
    the label. Then come 3,072 bytes: the red, the green and the blue plane, row by row."""

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: int

    def holds(self, place: Path) -> bool:
        """Whether a directory holds the files, their folder, the archive, or Parquet files."""
        return self.files_in(place) is not None or (place / self.archive).is_file() or bool(parquet_files(place))

    def files_in(self, place: Path) -> Path | None:
        """The directory of the binary files: ``place`` or the archive's own folder in it."""
        needed = (*self.train, self.test, self.names)
        return next((at for at in (place, place / self.folder) if all((at / file).is_file() for file in needed)), None)


TEN = Layout(
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    labels=1,
)
HUNDRED = Layout(
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    train=("train.bin",),
    test="test.bin",
    names="fine_label_names.txt",
    labels=2,
)
URL = "https://www.cs.toronto.edu/~kriz"


def parquet_files(place: Path) -> list[Path]:
    """The Parquet files of a directory in the layout of Hugging Face, sorted; none without a training file."""
    return sorted(place.glob("*.parquet")) if any(place.glob("train*.parquet")) else []


class _Cifar(SourceDataset):
    """What both have in common. ``data_dir`` holds the binary files, their archive, or Parquet files."""

    num_classes: ClassVar[int]
    layout: ClassVar[Layout]
    wanted: ClassVar[Wanted]

    def __init__(self, spec: DatasetSpec) -> None:
        refuse_argument(spec)
        super().__init__(spec)

    def source(self) -> Source:
        place = self._place()
        source = self._open(place)
        if len(source.classes) != self.num_classes:
            raise DataError(
                f"{place}: holds {len(source.classes)} classes, {self.spec.name} has {self.num_classes}: "
                "give the directory of the right dataset by --data-dir"
            )
        return source

    def _open(self, place: Path) -> Source:
        home, archive = self.layout.files_in(place), place / self.layout.archive
        if home is not None:
            return self._binary(home)
        if not archive.is_file():
            # Imported here: Parquet needs an extra that the binary files do without.
            from amla.datasets.parquet import parquet_source

            return parquet_source(parquet_files(place), self.spec)
        if place == cache_dir() / self.wanted.name:
            unpack(archive, place / self.layout.folder)
            return self._binary(place / self.layout.folder)
        with TemporaryDirectory() as temporary:
            unpack(archive, Path(temporary))
            return self._binary(Path(temporary))

    def _binary(self, home: Path) -> Source:
        train = [read_binary(home / file, self.layout.labels) for file in self.layout.train]
        images = np.concatenate([pair[0] for pair in train])
        labels = np.concatenate([pair[1] for pair in train])
        test = read_binary(home / self.layout.test, self.layout.labels)
        return array_source(
            Raw((images, labels), read_names(home / self.layout.names), test=test, flip=True), self.spec
        )

    def _place(self) -> Path:
        try:
            return locate(self.wanted, self.spec)
        except DataError:
            self._refuse_pickles()
            raise

    def _refuse_pickles(self) -> None:
        root = self.spec.data_dir or os.environ.get("AMLA_DATA_DIR")
        home = Path(root).expanduser() if root else None
        for place in (home, home / self.wanted.name) if home else ():
            for pickled in ("cifar-10-batches-py", "cifar-100-python", "data_batch_1", "meta"):
                if (place / pickled).exists():
                    raise DataError(
                        f"{place / pickled}: the Python version of CIFAR is pickled, and AMLA reads no pickles: "
                        f"fetch the binary version, {self.layout.archive}"
                    )


class CIFAR10(_Cifar):
    """Images (n, 32, 32, 3) uint8 of 10 classes, with the test split of its authors."""

    num_classes = 10
    layout = TEN
    wanted = Wanted(
        name="cifar10",
        holds=TEN.holds,
        contents=f"{TEN.archive} or its files (data_batch_1.bin, ...)",
        base_url=URL,
        downloads={TEN.archive: "md5:c32a1d4ab5d03f1284b67883e8d87530"},
    )


class CIFAR100(_Cifar):
    """Images (n, 32, 32, 3) uint8 of 100 classes (the fine labels), with the test split of its authors."""

    num_classes = 100
    layout = HUNDRED
    wanted = Wanted(
        name="cifar100",
        holds=HUNDRED.holds,
        contents=f"{HUNDRED.archive} or its files (train.bin, test.bin, fine_label_names.txt)",
        base_url=URL,
        downloads={HUNDRED.archive: "md5:03b5dce01913d631647c71ecec9e9cb8"},
    )


def read_names(path: Path) -> tuple[str, ...]:
    """Names of classes, one a line. Errors: ``DataError``."""
    try:
        return tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}): fetch the file anew") from None


def read_binary(path: Path, labels: int) -> Pair:
    """Images (n, 32, 32, 3) uint8 and labels (n,) of a file of records. Errors: ``DataError`` (cut short)."""
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % (labels + PIXELS):
        raise DataError(f"{path}: {len(data):,} bytes are no whole number of records: fetch the file anew")
    records = data.reshape(-1, labels + PIXELS)
    planes = records[:, labels:].reshape(-1, 3, 32, 32)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, labels - 1].astype(np.int64)


def unpack(archive: Path, target: Path) -> None:
    """Write the plain files of an archive into ``target``, by their last name only, whatever paths it claims."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            for member in tar:
                opened = tar.extractfile(member) if member.isfile() else None
                if opened is not None:
                    unfinished = target / f".{os.getpid()}.part"
                    unfinished.write_bytes(opened.read())
                    unfinished.replace(target / Path(member.name).name)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}): fetch the archive anew") from None

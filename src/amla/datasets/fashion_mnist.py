"""``fashion-mnist``: 60,000 + 10,000 grey pictures of clothes, 28x28, in IDX files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from amla.datasets.files import Wanted, locate, refuse_argument
from amla.datasets.memory import InMemoryDataset, Pair, Raw
from amla.errors import DataError
from amla.spec.data import DatasetSpec

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
FILES = {
    "train-images-idx3-ubyte": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}


def _holds(place: Path) -> bool:
    return all(_file(place, name).is_file() for name in FILES)


def _file(place: Path, name: str) -> Path:
    plain = place / name
    return plain if plain.is_file() else place / f"{name}.gz"


class FashionMNIST(InMemoryDataset):
    """Images (n, 28, 28, 1) uint8, with the test split of its authors. ``data_dir`` holds the four IDX files, gzipped
    or not; without, Debian's folder (package ``dataset-fashion-mnist``), else a download of 30 MB."""

    wanted: ClassVar[Wanted] = Wanted(
        name="fashion-mnist",
        holds=_holds,
        contents="the four IDX files (train-images-idx3-ubyte.gz, ...)",
        base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        downloads={f"{name}.gz": checksum for name, checksum in FILES.items()},
        system=(Path("/usr/share/datasets/fashion-mnist"),),
    )

    def __init__(self, spec: DatasetSpec) -> None:
        refuse_argument(spec)
        super().__init__(spec)

    def load(self) -> Raw:
        place = locate(self.wanted, self.spec)
        return Raw(_pair(place, "train"), CLASSES, test=_pair(place, "t10k"), flip=True)


def _pair(place: Path, prefix: str) -> Pair:
    images = read_idx(_file(place, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_file(place, f"{prefix}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(f"{place}: {prefix} images {images.shape} and labels {labels.shape} do not match: fetch anew")
    return images, labels.astype(np.int64)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An IDX file of bytes, gzipped or not: 0, 0, 8 (unsigned bytes), the number of axes, their sizes as big-endian
    32-bit numbers, and the values. Errors: ``DataError`` (missing, truncated, another format)."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}): fetch the file anew") from None
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an IDX file of unsigned bytes: fetch the file anew")
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise DataError(f"{path}: its header is cut short: fetch the file anew")
    shape = tuple(np.frombuffer(data, ">u4", axes, 4).tolist())
    values = np.frombuffer(data, np.uint8, offset=start)
    if len(values) != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path}: holds {len(values):,} values where its header says {shape}: fetch the file anew")
    return values.reshape(shape)

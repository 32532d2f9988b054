"""Files of the well-known formats, small, always the same bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import datasets

CLASSES = ("cat", "dog", "emu")


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the IDX format."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_idx(place: Path, train: int = 60, test: int = 20) -> None:
    rng = np.random.default_rng(0)
    place.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        pixels = rng.integers(0, 256, (count, 28, 28))
        (place / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels), mtime=0))
        (place / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count) % 10), mtime=0))


def write_cifar(place: Path, classes: int) -> None:
    """The binary files of CIFAR-10 (5 times 20 images and 20) or CIFAR-100 (300 and 100)."""
    rng = np.random.default_rng(0)
    place.mkdir(parents=True, exist_ok=True)
    ten = classes == 10
    files = {f"data_batch_{n}.bin": 20 for n in range(1, 6)} | {"test_batch.bin": 20}
    for name, count in (files if ten else {"train.bin": 300, "test.bin": 100}).items():
        labels = (np.arange(count) % classes)[:, None]
        pixels = rng.integers(0, 256, (count, 3072))
        record = [labels, pixels] if ten else [labels // 5, labels, pixels]
        (place / name).write_bytes(np.concatenate(record, axis=1).astype(np.uint8).tobytes())
    names = "batches.meta.txt" if ten else "fine_label_names.txt"
    (place / names).write_text("\n".join(f"thing{number}" for number in range(classes)) + "\n\n")


def tar_of(place: Path, folder: str) -> bytes:
    """A gzipped archive of the files of a directory, below ``folder``."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for file in sorted(place.iterdir()):
            if file.is_file():
                tar.add(file, f"{folder}/{file.name}")
    return out.getvalue()


def png(pixels: np.ndarray) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def rows(count: int, seed: int = 0, image: str = "image", label: str = "label") -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    cells = [{"bytes": png(rng.integers(0, 256, (9, 8, 3))), "path": f"{n}.png"} for n in range(count)]
    return {image: cells, label: [n % 3 for n in range(count)]}


def write_parquet(
    path: Path, count: int, *, seed: int = 0, columns: Sequence[str] = ("image", "label"), names: bool = True
) -> None:
    """Images and labels as ``datasets`` writes them; without ``names``, labels are mere numbers."""
    image, label = columns
    kind = datasets.ClassLabel(names=list(CLASSES)) if names else datasets.Value("int64")
    features = datasets.Features({image: datasets.Image(), label: kind})
    datasets.Dataset.from_dict(rows(count, seed, image, label), features=features).to_parquet(path)


def write_images(
    root: Path,
    classes: dict[str, int],
    *,
    mode: str = "RGB",
    suffix: str = "png",
    size: tuple[int, int] = (12, 10),
    seed: int = 0,
) -> None:
    """Folders of noise; every class has its own brightness, and every other image is turned on its side."""
    rng = np.random.default_rng(seed)
    for number, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            width, height = size if index % 2 else size[::-1]
            shape = (height, width) if mode == "L" else (height, width, 3)
            pixels = rng.integers(20 * number, 20 * number + 120, shape).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:03}.{suffix}")

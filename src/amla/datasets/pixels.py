"""Pixels: reading an image file, bringing arrays to a size, mean and deviation. Pillow and numpy only."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from amla.datasets.base import Images
from amla.errors import DataError
from amla.spec.data import DatasetInfo

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

#: Modes of Pillow that hold no colour.
GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})

# What Pillow's decoders raise on bytes that are not what they claim to be (RuntimeError: AVIF and DDS do).
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error)

# Images of one block when an array is worked through piece by piece.
_BLOCK = 512


@dataclass(frozen=True)
class Header:
    """What is known of an image before its pixels are decoded. Sides in pixels."""

    width: int
    height: int
    grey: bool


@contextmanager
def _opened(name: str, content: str | bytes) -> Iterator[Image.Image]:
    """An image from a path or from the bytes of a file; whatever goes wrong inside is a ``DataError`` with its name."""
    try:
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: the image is too large to decode safely ({error}): make it smaller") from None
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) and "cannot identify" not in str(error) else "not an image"
        raise DataError(f"{name}: unreadable image ({reason}): replace it, or remove it") from None


def header(name: str, content: str | bytes) -> Header:
    """Read an image's header. Errors: ``DataError`` that names the file."""
    with _opened(name, content) as image:
        return Header(image.width, image.height, image.mode in GREY_MODES)


def decode(name: str, content: str | bytes, side: int, channels: int) -> Pixels:
    """Decode one image file to (side, side, channels) uint8; channels 1 (grey) or 3 (RGB).

    The camera's orientation is applied, transparency becomes white, the short side is brought to ``side`` and the
    centre square is kept. Errors: ``DataError`` that names the file.
    """
    mode = "L" if channels == 1 else "RGB"
    with _opened(name, content) as image:
        # JPEG decoders can halve an image for nothing while they decode; never below twice what is needed.
        image.draft(mode, (2 * side, 2 * side))
        upright = _opaque(ImageOps.exif_transpose(image), mode)
        return np.asarray(_square(upright, side)).reshape(side, side, channels)


def _opaque(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode L or RGB."""
    if image.mode == mode:
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels: save it with 8 bits, or give arrays (npz:PATH)")
    if image.mode.startswith("I"):
        # Pillow would clip 16 bits at 255; here 65535 becomes 255.
        deep = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(deep, 0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _square(image: Image.Image, side: int) -> Image.Image:
    """The centre square of an image, ``side`` pixels wide."""
    if image.size == (side, side):
        return image
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)


def resized(images: Images, side: int) -> Images:
    """Arrays (n, h, w, c) as (n, side, side, c) of the same dtype: short side to ``side``, centre square kept."""
    if images.shape[1:3] == (side, side):
        return images
    out = np.empty((len(images), side, side, images.shape[3]), images.dtype)
    for image, target in zip(images, out, strict=True):
        for channel in range(images.shape[3]):
            target[:, :, channel] = np.asarray(_square(Image.fromarray(image[:, :, channel]), side))
    return out


def moments(blocks: Iterable[Images], channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of blocks (n, h, w, channels), on the scale that networks see.

    uint8 is summed in exact integers and divided by 255 at the end, so that neither the order nor the size of the
    blocks changes a bit of the result. Floats are merged block by block in float64 (Chan's parallel formula).
    """
    count, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    whole = np.zeros((2, channels), np.uint64)
    scale = 1.0
    for block in _pieces(blocks):
        flat = block.reshape(-1, channels)
        if flat.dtype == np.uint8:
            scale = 255.0
            wide = flat.astype(np.uint16)  # 255 * 255 just fits
            whole += np.stack([wide.sum(0, dtype=np.uint64), (wide * wide).sum(0, dtype=np.uint64)])
        else:
            exact = flat.astype(np.float64)
            own = exact.mean(0)
            delta = own - mean
            squares += ((exact - own) ** 2).sum(0) + delta**2 * (count * len(flat) / (count + len(flat)))
            mean += delta * (len(flat) / (count + len(flat)))
        count += len(flat)
    if scale == 255.0:
        mean, deviation = _integer_moments(whole, count)
    else:
        deviation = np.sqrt(squares / max(count, 1))
    return tuple((mean / scale).tolist()), tuple((deviation / scale).tolist())


def _integer_moments(whole: npt.NDArray[np.uint64], count: int) -> tuple[Floats, Floats]:
    """Mean and deviation from exact sums of x and of x * x, in Python's integers: nothing cancels."""
    sums, squares = ([int(value) for value in row] for row in whole)
    mean = np.array([value / count for value in sums])
    variance = [(count * square - value * value) / count**2 for value, square in zip(sums, squares, strict=True)]
    return mean, np.sqrt(np.array(variance))


def _pieces(blocks: Iterable[Images]) -> Iterator[Images]:
    for block in blocks:
        for start in range(0, len(block), _BLOCK):
            yield block[start : start + _BLOCK]


def read_like(paths: Sequence[Path], info: DatasetInfo) -> Pixels:
    """Image files as the images of a dataset: (n, height, width, channels) uint8. Errors: ``DataError`` naming the file."""
    height, width, channels = info.shape
    if info.dtype != "uint8":
        raise DataError(
            f"the network was trained on numbers, not on 8-bit images; image files do not fit it ({info.name})"
        )
    images = [decode(str(path), str(path), max(height, width), channels) for path in paths]
    return np.stack([image[:height, :width] for image in images])

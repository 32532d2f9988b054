from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from amla.datasets.pixels import decode, header, moments, resized
from amla.errors import DataError


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def gradient(width: int = 20, height: int = 12) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([rows * 20, columns * 12, rows + columns], axis=2).astype(np.uint8))


def test_an_image_of_the_right_size_keeps_its_pixels():
    image = gradient(12, 12)
    np.testing.assert_array_equal(decode("a", saved(image), 12, 3), np.asarray(image))


def test_the_centre_square_is_kept():
    image = gradient(20, 12)
    np.testing.assert_array_equal(decode("a", saved(image), 12, 3), np.asarray(image)[:, 4:16])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(gradient(16, 16), exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(content))))
    np.testing.assert_array_equal(decode("a", content, 16, 3), expected)
    if orientation != 1:
        assert (expected != np.asarray(gradient(16, 16))).any()


def test_transparent_becomes_white():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((1, 2), (0, 0, 255, 255))
    pixels = decode("a", saved(image), 4, 3)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[2, 1].tolist() == [0, 0, 255]
    grey = Image.new("LA", (4, 4), (10, 0))
    assert decode("a", saved(grey), 4, 1).tolist() == np.full((4, 4, 1), 255).tolist()


def test_a_palette_is_looked_up():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert decode("a", saved(image), 4, 3)[0, 0].tolist() == [200, 100, 50]


def test_sixteen_bits_are_scaled_and_not_clipped():
    deep = np.array([[0, 257], [32896, 65535]], np.uint16)
    assert decode("a", saved(Image.fromarray(deep)), 2, 1)[:, :, 0].tolist() == [[0, 1], [128, 255]]


@pytest.mark.parametrize(
    ("mode", "kind", "grey"),
    [
        ("1", "PNG", True),
        ("L", "JPEG", True),
        ("LA", "PNG", True),
        ("I;16", "PNG", True),
        ("RGB", "BMP", False),
        ("RGBA", "WEBP", False),
        ("CMYK", "JPEG", False),
        ("P", "GIF", False),
    ],
)
def test_every_mode_is_read_as_grey_and_as_colour(mode, kind, grey):
    content = saved(Image.new(mode, (9, 7)), kind)
    found = header("a", content)
    assert (found.width, found.height, found.grey) == (9, 7, grey)
    assert decode("a", content, 5, 1).shape == (5, 5, 1)
    assert decode("a", content, 5, 3).shape == (5, 5, 3)


def test_floating_point_files_are_refused():
    content = saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(DataError, match=r"^a\.tif: unreadable image \(floating-point.*npz"):
        decode("a.tif", content, 4, 1)


def test_a_huge_image_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"^a: the image is too large"):
        header("a", saved(gradient()))


def test_a_photograph_is_brought_down_well():
    """Half-decoding a JPEG must not show: within a grey level or two of the whole way."""
    image = gradient(400, 300).resize((1600, 1200))
    content = saved(image, "JPEG", quality=95)
    whole = Image.open(BytesIO(content)).resize((32, 32), Image.Resampling.BILINEAR, box=(200, 0, 1400, 1200))
    difference = decode("a", content, 32, 3).astype(int) - np.asarray(whole).astype(int)
    assert np.abs(difference).mean() < 2


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO", "DDS"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.floats(0, 1),
)
def test_corrupt_bytes_are_a_data_error_or_an_image(kind, changes, kept):
    content = bytearray(saved(gradient(), kind))
    content = content[: max(1, int(len(content) * kept))]
    for at, value in changes:
        content[at % len(content)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on what it forgives
        message = "a: it was read"
        try:
            assert decode("a", bytes(content), 8, 3).shape == (8, 8, 3)
        except DataError as error:
            message = str(error)
    assert message.startswith("a: ")
    assert "\n" not in message


def test_arrays_are_resized_per_channel():
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 20, 3)).astype(np.uint8)
    small = resized(images, 6)
    assert small.dtype == np.uint8
    expected = Image.fromarray(images[1]).resize((6, 6), Image.Resampling.BILINEAR, box=(4, 0, 16, 12))
    np.testing.assert_array_equal(small[1], np.asarray(expected))
    floats = resized(images.astype(np.float32) / 255, 6)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats * 255, small, atol=1.01)
    assert resized(images[:, :, :12], 12).shape == (3, 12, 12, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_moments_are_exact_however_the_images_come(dtype):
    images = np.random.default_rng(0).integers(0, 256, (1300, 4, 3, 2)).astype(dtype)
    scale = 255 if dtype is np.uint8 else 1
    for blocks in ([images], [images[:1], images[1:700], images[700:]]):
        mean, std = moments(blocks, 2)
        np.testing.assert_allclose(mean, images.mean((0, 1, 2), dtype=np.float64) / scale, rtol=1e-12)
        np.testing.assert_allclose(std, images.std((0, 1, 2), dtype=np.float64) / scale, rtol=1e-12)
    if dtype is np.uint8:
        assert moments([images], 2) == moments([images[600:], images[:600]], 2)


def test_a_large_mean_does_not_hide_a_small_deviation():
    images = (1e6 + np.random.default_rng(0).random((2000, 2, 2, 1))).astype(np.float32)
    assert moments([images], 1)[1][0] == pytest.approx(images.std(dtype=np.float64), rel=1e-6)

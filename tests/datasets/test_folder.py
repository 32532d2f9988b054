from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dataset_makers import write_images
from PIL import Image

from amla.datasets import load
from amla.errors import DataError
from amla.spec.data import DatasetSpec


def folder(path: Path, **options):
    return load(DatasetSpec(name=f"folder:{path}", **options))


def test_sizes_kinds_and_names(tmp_path):
    write_images(tmp_path, {"cat": 12}, suffix="jpg", size=(30, 20))
    write_images(tmp_path, {"dog": 12}, suffix="webp", size=(26, 24), mode="L")
    write_images(tmp_path / "emu", {"near": 6, "far": 6}, suffix="bmp", size=(22, 40))
    dataset = folder(tmp_path)
    assert dataset.info.classes == ("cat", "dog", "emu")
    assert dataset.info.shape == (22, 22, 3)
    assert dataset.info.sizes == {"train": 28, "valid": 4, "test": 4}
    assert dataset.info.flip
    assert not dataset.streamed


def test_grey_folders_stay_grey_and_are_not_mirrored(tmp_path):
    write_images(tmp_path, {"a": 10, "b": 10}, mode="L")
    info = folder(tmp_path).info
    assert info.shape == (10, 10, 1)
    assert not info.flip


def test_image_size_and_the_cap(tmp_path):
    write_images(tmp_path, {"a": 10, "b": 10}, size=(300, 260), suffix="jpg")
    assert folder(tmp_path).info.shape == (224, 224, 3)
    assert folder(tmp_path, image_size=20).info.shape == (20, 20, 3)
    assert folder(tmp_path, image_size=256).arrays("valid")[0].shape == (2, 256, 256, 3)


@pytest.mark.parametrize("valid", ["valid", "val", "validation"])
def test_given_splits_are_used(tmp_path, valid):
    write_images(tmp_path / "train", {"a": 10, "b": 10})
    write_images(tmp_path / valid, {"a": 2, "b": 3})
    write_images(tmp_path / "test", {"b": 4})
    dataset = folder(tmp_path)
    assert dataset.info.sizes == {"train": 20, "valid": 5, "test": 4}
    assert dataset.arrays("test")[1].tolist() == [1] * 4


def test_classes_may_be_called_as_splits_are(tmp_path):
    write_images(tmp_path, {"train": 10, "bus": 10})
    assert folder(tmp_path).info.classes == ("bus", "train")


def test_what_is_no_image_but_does_no_harm_is_ignored(tmp_path):
    write_images(tmp_path, {"a": 10, "b": 10})
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "a" / ".DS_Store").write_text("x")
    (tmp_path / "a" / "Thumbs.db").write_text("x")
    write_images(tmp_path, {".trash": 2})
    shutil.copy(tmp_path / "a" / "000.png", tmp_path / "a" / "no-suffix")
    assert sum(folder(tmp_path).info.sizes.values()) == 21


def test_the_split_is_that_of_the_names_and_not_of_the_place(tmp_path):
    for place in ("one", "two"):
        write_images(tmp_path / place, {"a": 10, "b": 10})
    one, two = (folder(tmp_path / place).arrays("valid") for place in ("one", "two"))
    np.testing.assert_array_equal(one[0], two[0])


def broken(tmp_path: Path, case: str) -> str:
    """Make a bad folder; what its message must say."""
    write_images(tmp_path, {"a": 10, "b": 10})
    match case:
        case "absent":
            shutil.rmtree(tmp_path)
            return "no such file or directory; folder:PATH needs a folder"
        case "a file":
            shutil.rmtree(tmp_path)
            tmp_path.write_text("x")
            return "not a folder"
        case "no classes":
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
            return "no sub-folders"
        case "one class":
            shutil.rmtree(tmp_path / "b")
            return r"only one class \(a\)"
        case "empty class":
            (tmp_path / "c").mkdir()
            return "class 'c' has no training image"
        case "not an image":
            (tmp_path / "a" / "notes.txt").write_text("hello")
            return r"a/notes\.txt: unreadable image \(not an image\): replace it, or remove it"
        case "empty file":
            (tmp_path / "a" / "x.png").touch()
            return r"a/x\.png: unreadable image"
        case "truncated":
            whole = (tmp_path / "a" / "004.png").read_bytes()
            (tmp_path / "a" / "004.png").write_bytes(whole[: len(whole) // 2])
            return r"a/004\.png: unreadable image \(.*truncated.*\)"
        case "stray image":
            shutil.copy(tmp_path / "a" / "000.png", tmp_path / "x.png")
            return r"x\.png: an image outside of the class folders"
        case "stranger":
            write_images(tmp_path / "train", {"a": 10, "b": 10})
            write_images(tmp_path / "val", {"z": 3})
            shutil.rmtree(tmp_path / "a")
            shutil.rmtree(tmp_path / "b")
            return "val/z: no such class in the training folder"
        case "twice valid":
            for name in ("a", "b"):
                shutil.move(tmp_path / name, tmp_path / "train" / name)
            write_images(tmp_path / "val", {"a": 3})
            write_images(tmp_path / "valid", {"a": 3})
            return "both val and valid"
        case "too few":
            for name in ("a", "b"):
                for number in range(1, 10):
                    (tmp_path / name / f"{number:03}.png").unlink()
            return "2 training images of 2 classes are too few to split off a test set"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        "absent",
        "a file",
        "no classes",
        "one class",
        "empty class",
        "not an image",
        "empty file",
        "truncated",
        "stray image",
        "stranger",
        "twice valid",
        "too few",
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_bad_folders_are_told_in_one_line(tmp_path, monkeypatch, case, streamed):
    if streamed:
        monkeypatch.setenv("AMLA_MEMORY_LIMIT", "1K")
    place = tmp_path / "data"
    expected = broken(place, case)
    with pytest.raises(DataError, match=expected) as caught:  # noqa: PT012 - here or when the pixels are read
        dataset = folder(place)
        for split in ("train", "valid", "test"):
            list(dataset.batches(split, 4))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_name_without_a_path():
    with pytest.raises(DataError, match=r"^folder: which one\? write folder:PATH"):
        load(DatasetSpec(name="folder"))


def test_streamed_batches_are_those_of_memory(tmp_path, monkeypatch):
    write_images(tmp_path, {"a": 40, "b": 33}, size=(200, 160), suffix="jpg")
    whole = folder(tmp_path, image_size=32)
    monkeypatch.setenv("AMLA_MEMORY_LIMIT", "1K")
    streamed = folder(tmp_path, image_size=32)
    assert streamed.streamed
    assert streamed.info == whole.info
    for size in (1, 5, 33, 64, 1000):
        for one, other in zip(
            streamed.batches("train", size, seed=3), whole.batches("train", size, seed=3), strict=True
        ):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])
    with pytest.raises(DataError, match=r"does not fit in memory.*AMLA_MEMORY_LIMIT"):
        streamed.arrays("train")


@pytest.mark.slow
def test_a_folder_like_imagenet_streams(tmp_path, monkeypatch):
    """2,400 photographs of 500x375 in 24 classes; decoded 360 MB, allowed 100 MB."""
    import psutil

    rng = np.random.default_rng(0)
    for number in range(2400):
        place = tmp_path / "train" / f"n{number % 24:08}"
        place.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
        Image.fromarray(small).resize((500, 375)).save(place / f"{number}.JPEG", quality=90)
    monkeypatch.setenv("AMLA_MEMORY_LIMIT", "100M")
    dataset = folder(tmp_path, image_size=224)
    assert dataset.streamed
    assert dataset.info.shape == (224, 224, 3)
    assert dataset.info.sizes == {"train": 1920, "valid": 240, "test": 240}
    before = psutil.Process().memory_info().rss
    seen = 0
    for images, labels in dataset.batches("train", 64, seed=1):
        assert images.shape[1:] == (224, 224, 3)
        seen += len(labels)
    assert seen == 1920
    assert psutil.Process().memory_info().rss - before < 150e6

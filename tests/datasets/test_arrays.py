from __future__ import annotations

import numpy as np
import pytest

from amla.datasets import load
from amla.datasets.arrays import ArrayDataset
from amla.errors import DataError
from amla.spec.data import SPLITS, DatasetSpec

SPEC = DatasetSpec(name="arrays", seed=4)


def pixels(count: int = 40, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *(shape or (5, 4)))).astype(np.uint8)


def labels(count: int = 40) -> list[str]:
    return [("yes", "no")[n % 2] for n in range(count)]


@pytest.mark.parametrize(
    ("given", "dtype", "shape"),
    [
        (pixels(), "uint8", (5, 4, 1)),
        (pixels(40, 5, 4, 3), "uint8", (5, 4, 3)),
        (pixels(40, 5, 4, 2).astype(np.int64), "uint8", (5, 4, 2)),
        (pixels() > 100, "uint8", (5, 4, 1)),
        (pixels() / 255, "float32", (5, 4, 1)),
        (pixels().astype(np.int64) - 128, "float32", (5, 4, 1)),
        (pixels().astype(np.uint16) * 257, "float32", (5, 4, 1)),
        (pixels().astype(np.float16), "float32", (5, 4, 1)),
        (pixels().tolist(), "uint8", (5, 4, 1)),
    ],
)
def test_images_of_any_kind(given, dtype, shape):
    dataset = ArrayDataset(SPEC, given, labels())
    assert (dataset.info.dtype, dataset.info.shape) == (dtype, shape)
    images, _ = dataset.arrays("train")
    assert images.dtype == dtype
    exact = np.asarray(given) * (255.0 if np.asarray(given).dtype == np.bool_ else 1.0)
    assert set(np.unique(images)) <= set(exact.astype(dtype).ravel())


@pytest.mark.parametrize(
    ("given", "classes", "names"),
    [
        (labels(), None, ("no", "yes")),
        ([7, 3] * 20, None, ("3", "7")),
        (np.array([7.0, 3.0] * 20), None, ("3", "7")),
        ([True, False] * 20, None, ("False", "True")),
        ([0, 1] * 20, ["cat", "dog"], ("cat", "dog")),
        (labels(), ["yes", "no"], ("yes", "no")),
        (np.array(labels(), object), None, ("no", "yes")),
        ([(1, 2), (0, 5)] * 20, None, None),
    ],
)
def test_labels_of_any_kind(given, classes, names):
    if names is None:
        with pytest.raises(DataError, match="one label an image"):
            ArrayDataset(SPEC, pixels(), given, classes=classes)
    else:
        assert ArrayDataset(SPEC, pixels(), given, classes=classes).info.classes == names


@pytest.mark.parametrize(
    ("images", "given", "options", "message"),
    [
        (pixels(40, 9), labels(), {}, r"arrays, train: images of shape \(40, 9\)"),
        (pixels(), labels(39), {}, "40 images and 39 labels"),
        (pixels(), ["a"] * 40, {}, "only one class"),
        (pixels(), [0.5, 1.0] * 20, {}, "not whole numbers"),
        (pixels(), [1, "a"] * 20, {}, "several kinds"),
        (pixels(), [None, "a"] * 20, {}, "missing labels"),
        (pixels(), [0, 2] * 20, {"classes": ["a", "b"]}, "label 2, but there are 2 classes"),
        (pixels(), labels(), {"classes": ["yes", "maybe"]}, "label 'no' is none of the classes yes, maybe"),
        (pixels(), [0, 1] * 20, {"classes": ["a", "a"]}, "two classes have the same name"),
        (pixels(), [0, 1] * 20, {"classes": ["a", "b", "c"]}, "class 'c' has no training image"),
        (np.full((40, 5, 4), np.nan), labels(), {}, "not finite"),
        (np.full((40, 5, 4), 1e300), labels(), {}, "not finite"),
        (np.full((40, 5, 4), "x"), labels(), {}, "images of type <U1"),
        (np.zeros((0, 5, 4)), [], {}, "no images in its train split"),
        (pixels(40, 5, 0), labels(), {}, "images of shape"),
        (pixels(), labels(), {"test": (pixels(4, 6, 6), labels(4))}, "the splits differ"),
        (pixels(), labels(), {"test": (pixels(4), ["new"] * 4)}, "class 'new' has no training image"),
    ],
)
def test_bad_arrays_are_told_in_one_line(images, given, options, message):
    with pytest.raises(DataError, match=message) as caught:
        ArrayDataset(SPEC, images, given, **options)
    assert "\n" not in str(caught.value)


def test_fractions_that_leave_nothing():
    spec = SPEC.model_copy(update={"valid_fraction": 0.6, "test_fraction": 0.4})
    with pytest.raises(DataError, match="leave nothing to train on"):
        ArrayDataset(spec, pixels(), labels())
    assert ArrayDataset(spec, pixels(), labels(), test=(pixels(4), labels(4))).info.sizes["train"] == 16


@pytest.mark.parametrize("flip", [None, True, False])
@pytest.mark.parametrize("given", ["train", "all"])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_saved_arrays_are_the_same_dataset(tmp_path, flip, given, kind):
    options = {} if given == "train" else {"valid": (pixels(6, seed=1), labels(6)), "test": (pixels(4), labels(4))}
    if kind == "float32":
        options = {split: (images / 255, own) for split, (images, own) in options.items()}
    images = pixels() if kind == "uint8" else pixels() / 255
    dataset = ArrayDataset(SPEC.model_copy(update={"limit": 20}), images, labels(), flip=flip, **options)
    again = load(dataset.save(tmp_path / "data.npz"))
    assert again.info.model_copy(update={"name": "arrays"}) == dataset.info
    for split in SPLITS:
        for one, other in zip(dataset.arrays(split), again.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]


def test_saving_where_one_cannot(tmp_path):
    dataset = ArrayDataset(SPEC, pixels(), labels())
    with pytest.raises(DataError, match=r"ends in \.npz"):
        dataset.save(tmp_path / "data")
    with pytest.raises(DataError, match="cannot be written"):
        dataset.save(tmp_path / "none" / "data.npz")


def npz(path, **arrays):
    np.savez(path / "d.npz", **arrays)
    return load(DatasetSpec(name=f"npz:{path / 'd.npz'}"))


def test_class_names_travel(tmp_path):
    info = npz(tmp_path, x_train=pixels(), y_train=np.arange(40) % 2, classes=np.array(["cat", "dog"])).info
    assert info.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not a readable NPZ file"),
        (b"PK\x03\x04garbage", "not a readable NPZ file"),
        (b"hello", "not a readable NPZ file"),
    ],
)
def test_bad_npz_files(tmp_path, content, message):
    if content is not None:
        (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(DatasetSpec(name=f"npz:{tmp_path / 'd.npz'}"))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_npz(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", images=pixels(), labels=np.arange(40) % 2)
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[:700])
    with pytest.raises(DataError, match="not a readable NPZ file"):
        load(DatasetSpec(name=f"npz:{tmp_path / 'd.npz'}"))
    middle = bytearray(whole)
    middle[300] ^= 255
    (tmp_path / "d.npz").write_bytes(bytes(middle))
    with pytest.raises(DataError, match="not a readable NPZ file"):
        load(DatasetSpec(name=f"npz:{tmp_path / 'd.npz'}"))


def test_pickled_labels_are_not_read(tmp_path):
    with pytest.raises(DataError, match="pickled objects"):
        npz(tmp_path, images=pixels(), labels=np.array(labels(), object))


def test_other_keys(tmp_path):
    with pytest.raises(DataError, match="holds X, y; wanted the arrays x_train and y_train"):
        npz(tmp_path, X=pixels(), y=np.arange(40) % 2)


def test_a_single_array(tmp_path):
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, pixels())
    with pytest.raises(DataError, match="a single array"):
        load(DatasetSpec(name=f"npz:{tmp_path / 'd.npz'}"))


def test_arrays_stream_where_a_large_size_asks_for_much(monkeypatch):
    spec = SPEC.model_copy(update={"image_size": 64})
    whole = ArrayDataset(spec, pixels(), labels())
    monkeypatch.setenv("AMLA_MEMORY_LIMIT", "0.1M")
    streamed = ArrayDataset(spec, pixels(), labels())
    assert streamed.streamed
    assert not whole.streamed
    assert streamed.info == whole.info

"""``parquet:PATH`` and ``hf:NAME``, offline."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_makers import CLASSES, png, rows, write_images, write_parquet

import datasets
from amla.datasets import load
from amla.errors import DataError, PluginError
from amla.spec.data import DatasetSpec


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def parquet(path: Path, **options):
    return load(DatasetSpec(name=f"parquet:{path}", **options))


@pytest.mark.parametrize("columns", [("img", "label"), ("image", "labels"), ("img", "fine_label"), ("scan", "kind")])
def test_columns_and_names(tmp_path, columns):
    write_parquet(tmp_path / "d.parquet", 30, columns=columns)
    dataset = parquet(tmp_path / "d.parquet")
    assert dataset.info.classes == CLASSES
    assert dataset.info.shape == (8, 8, 3)


def test_pixels_and_labels_stay_together(tmp_path):
    write_parquet(tmp_path / "train.parquet", 30)
    write_parquet(tmp_path / "validation.parquet", 9, seed=1)
    write_parquet(tmp_path / "test.parquet", 6, seed=2)
    images, labels = parquet(tmp_path).arrays("test")
    given = rows(6, seed=2)
    assert labels.tolist() == given["label"]
    for image, cell in zip(images, given["image"], strict=True):
        assert png(image) != cell["bytes"]  # 9x8 was cut to 8x8
    assert parquet(tmp_path).info.sizes == {"train": 30, "valid": 9, "test": 6}


def test_labels_without_names_stay_numbers(tmp_path):
    write_parquet(tmp_path / "d.parquet", 30, names=False)
    assert parquet(tmp_path / "d.parquet").info.classes == ("0", "1", "2")


def test_plain_parquet_of_bytes_and_words(tmp_path):
    cells = [cell["bytes"] for cell in rows(30)["image"]]
    words = [("ja", "nein")[n % 2] for n in range(30)]
    pq.write_table(pa.table({"image": cells, "label": words}), tmp_path / "d.parquet")
    assert parquet(tmp_path / "d.parquet").info.classes == ("ja", "nein")


def test_a_test_split_without_labels_counts_as_none(tmp_path):
    write_parquet(tmp_path / "train.parquet", 30)
    hidden = {"image": rows(5)["image"], "label": [-1] * 5}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    datasets.Dataset.from_dict(hidden, features=features).to_parquet(tmp_path / "test.parquet")
    assert parquet(tmp_path).info.sizes == {"train": 24, "valid": 3, "test": 3}


def test_classes_without_images_are_left_out(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", *CLASSES, "y"])})
    given = rows(30)
    given["label"] = [label + 1 for label in given["label"]]
    datasets.Dataset.from_dict(given, features=features).to_parquet(tmp_path / "d.parquet")
    dataset = parquet(tmp_path / "d.parquet")
    assert dataset.info.classes == CLASSES
    assert set(dataset.arrays("train")[1].tolist()) == {0, 1, 2}


def bad(tmp_path: Path, case: str) -> str:
    given = rows(30)
    match case:
        case "absent":
            return "no such file"
        case "empty directory":
            tmp_path.mkdir()
            return "no Parquet files in this directory"
        case "not parquet":
            tmp_path.write_bytes(b"hello")
            return "cannot be opened"
        case "no image column":
            pq.write_table(pa.table({"picture": [1] * 30, "label": given["label"]}), tmp_path)
            return r"no column of images \(image or img\) among picture, label"
        case "no label column":
            pq.write_table(pa.table({"image": given["image"], "y": given["label"]}), tmp_path)
            return r"no column of labels \(label, labels, fine_label\) among image, y"
        case "missing labels":
            pq.write_table(pa.table({"image": given["image"], "label": [None, *given["label"][1:]]}), tmp_path)
            return "1 rows of column 'label' are empty"
        case "missing image":
            pq.write_table(pa.table({"image": [None, *given["image"][1:]], "label": given["label"]}), tmp_path)
            return "train, image 0: there is no image in this row"
        case "broken image":
            given["image"][7]["bytes"] = b"hello"
            pq.write_table(pa.table(given), tmp_path)
            return r"train, image 7 \(7\.png\): unreadable image"
        case "numbers for images":
            pq.write_table(pa.table({"image": [1] * 30, "label": given["label"]}), tmp_path)
            return "column 'image' holds no image files"
        case "one class":
            pq.write_table(pa.table({"image": given["image"], "label": [1] * 30}), tmp_path)
            return "only one class"
        case "unknown split":
            tmp_path.mkdir()
            write_parquet(tmp_path / "train.parquet", 30)
            write_parquet(tmp_path / "more.parquet", 30)
            return r"more\.parquet: train, valid or test\?"
        case "no train":
            tmp_path.mkdir()
            write_parquet(tmp_path / "valid.parquet", 30)
            write_parquet(tmp_path / "test.parquet", 30)
            return "no training file"
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        "absent",
        "empty directory",
        "not parquet",
        "no image column",
        "no label column",
        "missing labels",
        "missing image",
        "broken image",
        "numbers for images",
        "one class",
        "unknown split",
        "no train",
    ],
)
def test_bad_parquet_is_told_in_one_line(tmp_path, case):
    place = tmp_path / "data.parquet"
    with pytest.raises(DataError, match=bad(place, case)) as caught:
        parquet(place)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_local_folder_of_images_by_the_library(tmp_path):
    for split in ("train", "test"):
        write_images(tmp_path / split, {"ant": 10, "bee": 10})
    info = load(DatasetSpec(name=f"hf:{tmp_path}")).info
    assert info.classes == ("ant", "bee")
    assert info.sizes == {"train": 18, "valid": 2, "test": 20}


@pytest.mark.parametrize("many", [False, True])
def test_what_save_to_disk_wrote(tmp_path, many):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    one = datasets.Dataset.from_dict(rows(30), features=features)
    (datasets.DatasetDict({"train": one, "test": one}) if many else one).save_to_disk(tmp_path / "saved")
    info = load(DatasetSpec(name=f"hf:{tmp_path / 'saved'}")).info
    assert info.classes == CLASSES
    assert info.sizes["test"] == (30 if many else 3)


def test_the_hub_out_of_reach(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"^hf:nobody/nothing: cannot be opened \(.*\): check the name") as caught:
        load(DatasetSpec(name="hf:nobody/nothing"))
    assert "\n" not in str(caught.value)


def test_no_name():
    with pytest.raises(DataError, match=r"^hf: which dataset\?"):
        load(DatasetSpec(name="hf"))


def test_the_library_is_missing(tmp_path, monkeypatch):
    write_parquet(tmp_path / "d.parquet", 30)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PluginError, match=r"pip install 'amla\[data\]'"):
        parquet(tmp_path / "d.parquet")


def test_streamed_parquet_gives_the_batches_of_memory(tmp_path, monkeypatch):
    write_parquet(tmp_path / "d.parquet", 50)
    whole = parquet(tmp_path / "d.parquet")
    monkeypatch.setenv("AMLA_MEMORY_LIMIT", "1K")
    streamed = parquet(tmp_path / "d.parquet")
    assert streamed.streamed
    for one, other in zip(streamed.batches("train", 8, seed=0), whole.batches("train", 8, seed=0), strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_cifar10_of_the_shared_folder(shared_cifar10):
    dataset = load(DatasetSpec(name="cifar10", data_dir=str(shared_cifar10), limit=300))
    assert dataset.info.sizes == {"train": 300, "valid": 300, "test": 300}
    assert dataset.info.classes[3] == "cat"
    assert dataset.info.shape == (32, 32, 3)
    images, labels = dataset.arrays("train")
    assert np.bincount(labels).tolist() == [30] * 10
    assert images.std() > 30

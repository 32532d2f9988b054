"""Every dataset of ours passes the suite that is shipped for those of others."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from dataset_makers import write_cifar, write_idx, write_images, write_parquet

from amla.datasets.arrays import ArrayDataset
from amla.datasets.base import Dataset
from amla.datasets.cifar import CIFAR10, CIFAR100
from amla.datasets.digits import Digits
from amla.datasets.fashion_mnist import FashionMNIST
from amla.datasets.folder import Folder
from amla.datasets.hf import HuggingFace
from amla.datasets.npz import Npz
from amla.datasets.parquet import Parquet
from amla.spec.data import DatasetSpec
from amla.testing.datasets import DatasetSuite


class TestDigits(DatasetSuite):
    dataset = Digits

    def spec(self, tmp_path: Path) -> DatasetSpec:
        return DatasetSpec(name="digits")


class TestFashionMNIST(DatasetSuite):
    dataset = FashionMNIST
    cut = frozenset({"valid"})

    def spec(self, tmp_path: Path) -> DatasetSpec:
        write_idx(tmp_path)
        return DatasetSpec(name="fashion-mnist", data_dir=str(tmp_path))


class TestCIFAR10(DatasetSuite):
    dataset = CIFAR10
    cut = frozenset({"valid"})

    def spec(self, tmp_path: Path) -> DatasetSpec:
        write_cifar(tmp_path, 10)
        return DatasetSpec(name="cifar10", data_dir=str(tmp_path))


class TestCIFAR100(DatasetSuite):
    dataset = CIFAR100
    cut = frozenset({"valid"})

    def spec(self, tmp_path: Path) -> DatasetSpec:
        write_cifar(tmp_path, 100)
        return DatasetSpec(name="cifar100", data_dir=str(tmp_path))


class TestFolder(DatasetSuite):
    dataset = Folder

    def spec(self, tmp_path: Path) -> DatasetSpec:
        write_images(tmp_path, {"ant": 20, "bee": 31, "cat": 5})
        return DatasetSpec(name=f"folder:{tmp_path}")


class TestStreamedFolder(TestFolder):
    @pytest.fixture(autouse=True)
    def little_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AMLA_MEMORY_LIMIT", "2K")

    def test_it_is_streamed(self, tmp_path: Path) -> None:
        assert self.open(tmp_path).streamed


class TestGreyFolderWithAllSplits(DatasetSuite):
    dataset = Folder
    cut = frozenset()

    def spec(self, tmp_path: Path) -> DatasetSpec:
        for seed, split in enumerate(("train", "val", "test")):
            write_images(tmp_path / split, {"ant": 9, "bee": 12}, mode="L", suffix="jpg", seed=seed)
        return DatasetSpec(name=f"folder:{tmp_path}", image_size=16)


class TestParquet(DatasetSuite):
    dataset = Parquet
    cut = frozenset({"valid"})

    def spec(self, tmp_path: Path) -> DatasetSpec:
        write_parquet(tmp_path / "train-00000-of-00002.parquet", 20, seed=1)
        write_parquet(tmp_path / "train-00001-of-00002.parquet", 20, seed=2)
        write_parquet(tmp_path / "test.parquet", 10, seed=3)
        return DatasetSpec(name=f"parquet:{tmp_path}")


class TestHuggingFace(DatasetSuite):
    dataset = HuggingFace

    def spec(self, tmp_path: Path) -> DatasetSpec:
        write_parquet(tmp_path / "train.parquet", 40)
        return DatasetSpec(name=f"hf:{tmp_path}")


class TestStreamedHuggingFace(TestHuggingFace):
    @pytest.fixture(autouse=True)
    def little_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AMLA_MEMORY_LIMIT", "2K")


class TestNpz(DatasetSuite):
    dataset = Npz

    def spec(self, tmp_path: Path) -> DatasetSpec:
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "data.npz", images=rng.random((60, 6, 5, 2)), labels=rng.choice(["no", "yes", "so"], 60))
        return DatasetSpec(name=f"npz:{tmp_path / 'data.npz'}")


class TestArrays(DatasetSuite):
    def spec(self, tmp_path: Path) -> DatasetSpec:
        return DatasetSpec(name="arrays", image_size=4, valid_fraction=0.2)

    def open(self, tmp_path: Path, **changes: object) -> Dataset:
        rng = np.random.default_rng(0)
        spec = self.spec(tmp_path).model_copy(update=changes)
        return ArrayDataset(spec, rng.integers(0, 256, (60, 8, 6)), rng.choice([3, 5, 9], 60))


class TestStreamedArrays(TestArrays):
    @pytest.fixture(autouse=True)
    def little_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AMLA_MEMORY_LIMIT", "100")


def test_plain_and_gzipped_idx_files_are_the_same(tmp_path: Path) -> None:
    write_idx(tmp_path)
    for file in tmp_path.glob("*.gz"):
        (tmp_path / "plain").mkdir(exist_ok=True)
        (tmp_path / "plain" / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    zipped = FashionMNIST(DatasetSpec(name="fashion-mnist", data_dir=str(tmp_path)))
    plain = FashionMNIST(DatasetSpec(name="fashion-mnist", data_dir=str(tmp_path / "plain")))
    assert zipped.info == plain.info

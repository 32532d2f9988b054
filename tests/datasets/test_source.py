from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from amla.datasets import load, source
from amla.datasets.ahead import read_ahead
from amla.datasets.arrays import ArrayDataset
from amla.datasets.source import memory_limit
from amla.errors import DataError, PluginError
from amla.spec.data import DatasetSpec


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("2K", 2048), ("1.5M", 1572864), ("4g", 4 * 2**30), ("4GiB", 4 * 2**30), ("3 MB", 3 * 2**20)],
)
def test_the_limit_of_memory(text, size, monkeypatch):
    monkeypatch.setenv("AMLA_MEMORY_LIMIT", text)
    assert memory_limit() == size


@pytest.mark.parametrize("text", ["much", "G", "inf", "nan", "1X"])
def test_a_limit_that_is_none(text, monkeypatch):
    monkeypatch.setenv("AMLA_MEMORY_LIMIT", text)
    with pytest.raises(DataError, match=r"^AMLA_MEMORY_LIMIT="):
        memory_limit()


def test_a_quarter_of_what_is_free():
    assert 2**20 < memory_limit() < 2**50


def test_nobody_has_that_name():
    with pytest.raises(PluginError, match="no dataset is called 'mnits'"):
        load(DatasetSpec(name="mnits"))


def test_large_training_splits_are_sampled_alike_streamed_or_not(monkeypatch):
    monkeypatch.setattr(source, "EXACT_BYTES", 1000)
    monkeypatch.setattr(source, "SAMPLE", 50)
    images = np.random.default_rng(0).integers(0, 256, (400, 4, 4)).astype(np.uint8)
    spec = DatasetSpec(name="arrays")
    whole = ArrayDataset(spec, images, np.arange(400) % 2)
    monkeypatch.setenv("AMLA_MEMORY_LIMIT", "1K")
    streamed = ArrayDataset(spec, images, np.arange(400) % 2)
    assert streamed.streamed
    assert streamed.info == whole.info
    exact = whole.arrays("train")[0].mean() / 255
    assert whole.info.mean[0] != exact
    assert whole.info.mean[0] == pytest.approx(exact, abs=0.05)


def test_digits():
    dataset = load(DatasetSpec(name="digits"))
    info = dataset.info
    assert info.sizes == {"train": 1437, "valid": 180, "test": 180}
    assert (info.shape, info.classes, info.flip) == ((8, 8, 1), tuple("0123456789"), False)
    images, _ = dataset.arrays("train")
    assert (images.min(), images.max(), len(np.unique(images))) == (0, 255, 17)


def test_a_batch_of_nothing():
    with pytest.raises(ValueError, match="a batch of 0 images"):
        next(load(DatasetSpec(name="digits")).batches("train", 0))


def test_importing_is_cheap():
    """Neither an image library nor the data of others is imported before a dataset is asked for."""
    script = (
        "import sys, amla.datasets; print([m for m in ('PIL', 'datasets', 'sklearn', 'torch') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_reading_ahead_keeps_the_order_and_its_distance():
    begun: list[int] = []

    def read(task: int) -> int:
        begun.append(task)
        return task * task

    answers = read_ahead(read, range(100), threads=3, ahead=5)
    assert [next(answers) for _ in range(10)] == [n * n for n in range(10)]
    assert max(begun) <= 15
    answers.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("amla-images")]


def test_reading_ahead_tells_an_error_in_its_place():
    def read(task: int) -> int:
        if task == 3:
            raise DataError("the third")
        return task

    answers = read_ahead(read, range(10), threads=2, ahead=4)
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="the third"):
        next(answers)

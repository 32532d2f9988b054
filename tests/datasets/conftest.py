"""Small real data that the tests make, and the larger data beside the repository where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

import datasets

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


@pytest.fixture(autouse=True)
def own_world(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment and no cache of the person who runs the tests."""
    for name in ("AMLA_DATA_DIR", "AMLA_DATASETS_URL", "AMLA_MEMORY_LIMIT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("amla.datasets.files.platformdirs.user_cache_path", lambda name: home / name)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "huggingface")


@pytest.fixture
def shared_cifar10() -> Path:
    place = SHARED / "cifar10"
    if not (place / "train.parquet").is_file():
        pytest.skip("no CIFAR-10 in ../shared/data/cifar10")
    return place

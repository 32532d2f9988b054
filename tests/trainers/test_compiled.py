"""The compiled trainer: the shipped suite, and that it trains what the plain one trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amla import artifacts, datasets, registry
from amla.datasets.base import Dataset
from amla.errors import SearchError
from amla.spec.training import Budget, Training
from amla.spec.trial import Job, Result, TrialSpec
from amla.testing.trainers import DIGITS, TrainerSuite, network
from amla.trainers import loop
from amla.trainers.base import Trainer
from amla.trainers.torch.compiled import CompiledTorchTrainer
from amla.trainers.torch.trainer import TorchTrainer


@pytest.mark.slow  # every network of it is traced
class TestCompiledTorchTrainer(TrainerSuite):
    @pytest.fixture(autouse=True)
    def _report_every_step(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "REPORT", 0.0)

    def trainer(self) -> Trainer:
        return CompiledTorchTrainer()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return datasets.load(DIGITS)


def trained(trainer: Trainer, folder: Path, data: Dataset, precision: str, **spec: Any) -> tuple[Result, Any]:
    training = Training(batch_size=32, precision=precision)  # type: ignore[arg-type]
    asked = TrialSpec(architecture=network(), training=training, budget=Budget(steps=14), **spec)
    job = Job(experiment="e", number=0, seed=1, spec=asked, dataset=DIGITS, folder=str(folder))
    result = trainer.train(job, data)
    return result, artifacts.unpack(artifacts.read(str(folder), "model.safetensors") or b"")


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_it_trains_what_the_plain_trainer_trains(
    tmp_path: Path, data: Dataset, precision: str, tolerance: float
) -> None:
    instruments: dict[str, Any] = {"instruments": ("feature_map", "skip", "taylor", "switched_off")}
    ours, weights = trained(CompiledTorchTrainer(), tmp_path / "compiled", data, precision, **instruments)
    theirs, expected = trained(TorchTrainer(), tmp_path / "plain", data, precision, **instruments)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(weights[name], value, atol=tolerance, err_msg=name)
    assert ours.metrics["valid"]["loss"] == pytest.approx(theirs.metrics["valid"]["loss"], abs=tolerance)
    assert ours.statistics.keys() == theirs.statistics.keys()


def test_its_steps_are_compiled(tmp_path: Path, data: Dataset) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    trained(CompiledTorchTrainer(), tmp_path, data, "float32")
    assert counters["stats"]["unique_graphs"] == 1, "one for all steps"
    assert not counters["graph_break"]


def test_supernets_and_scores_are_for_the_plain_one(tmp_path: Path, data: Dataset) -> None:
    assert registry.load("trainers", "torch-compiled") is CompiledTorchTrainer
    with pytest.raises(SearchError, match="the trainer 'torch-compiled' has no darts"):
        trained(CompiledTorchTrainer(), tmp_path, data, "float32", procedure="darts")

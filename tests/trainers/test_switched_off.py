"""The loss with a branch switched off, against networks in which its weights are zero."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from amla import artifacts, datasets
from amla.spec.data import DatasetSpec
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.training import Augmentation, Budget, OneCycle, Training
from amla.spec.trial import Job, TrialSpec
from amla.testing.trainers import network
from amla.trainers.base import Trainer
from amla.trainers.keras.trainer import KerasTrainer
from amla.trainers.switched import IMAGES, NAME
from amla.trainers.torch.data import Batches
from amla.trainers.torch.module import GraphModule, by_batch
from amla.trainers.torch.trainer import TorchTrainer

DATA = DatasetSpec(name="digits", limit=400)


def job(folder: Path, *instruments: str, ema: float = 0.0) -> Job:
    training = Training(batch_size=32, schedule=OneCycle(rate=0.05), ema=ema, precision="float32")
    spec = TrialSpec(
        architecture=network(dropout=0.0), training=training, budget=Budget(steps=20), instruments=instruments
    )
    return Job(experiment="e", number=0, seed=3, spec=spec, dataset=DATA, folder=str(folder))


def loss(graph: Graph, weights: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> float:
    module = GraphModule(graph)
    module.load_state_dict(weights)
    with torch.no_grad():
        return float(F.cross_entropy(by_batch(module)(images)[0], labels))


@pytest.mark.parametrize(("trainer", "ema"), [(TorchTrainer(), 0.0), (TorchTrainer(), 0.5), (KerasTrainer(), 0.5)])
def test_it_is_the_rise_of_the_loss_on_training_images(tmp_path: Path, trainer: Trainer, ema: float) -> None:
    data = datasets.load(DATA)
    asked = job(tmp_path, NAME, "feature_map", ema=ema)
    result = trainer.train(asked, data)
    whole_graph = lower(asked.spec.architecture, data.info.input_shape, data.info.num_classes)
    graph = whole_graph.inference()
    stored = artifacts.unpack(artifacts.read(str(tmp_path), "model.safetensors") or b"")
    weights = {name: torch.from_numpy(value.copy()) for name, value in stored.items()}
    images, labels = next(Batches(data, IMAGES, Augmentation(), 3, torch.device("cpu"))(0))
    whole = loss(graph, weights, images, labels)
    branches = [block for block in whole_graph.blocks if block.kind != "skip"]
    assert branches
    for block in branches:
        silent = {  # a norm of scale and bias zero gives zeros, and so does the activation
            name: torch.zeros_like(value) if name in (f"{block.name}/norm.weight", f"{block.name}/norm.bias") else value
            for name, value in weights.items()
        }
        found = result.statistics[block.name]
        assert found[NAME] == pytest.approx(loss(graph, silent, images, labels) - whole, abs=1e-5)
        assert "mean_square" in found, "beside the other instruments"
    assert not any(NAME in result.statistics[block.name] for block in whole_graph.blocks if block.kind == "skip")
    assert len({round(result.statistics[block.name][NAME], 6) for block in branches}) > 1


def test_looking_changes_nothing_and_is_paid_for(tmp_path: Path) -> None:
    data = datasets.load(DATA)
    watched = TorchTrainer().train(job(tmp_path / "a", NAME), data)
    alone = TorchTrainer().train(job(tmp_path / "b"), data)
    assert watched.metrics == alone.metrics
    one, other = (artifacts.read(str(tmp_path / name), "model.safetensors") for name in "ab")
    assert one == other
    assert watched.cost.seconds == pytest.approx(watched.cost.train_seconds + watched.cost.evaluate_seconds)

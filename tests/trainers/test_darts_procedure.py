"""The procedure ``darts``: gates, the two halves of the data, strengths that learn, and going on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amla import datasets
from amla.errors import SpecError, TrialFailure
from amla.spaces.nasbench201 import NASBench201Settings, NASBench201Space
from amla.spec.experiment import Problem
from amla.spec.lower import lower
from amla.spec.procedures import DartsSettings
from amla.spec.training import Budget
from amla.spec.trial import Job, TrialSpec
from amla.testing.trainers import DIGITS, PLAIN, figures, stopping_at
from amla.trainers import loop
from amla.trainers.torch.darts import Strengths
from amla.trainers.torch.module import build
from amla.trainers.torch.parts import parted
from amla.trainers.torch.trainer import TorchTrainer

PROBLEM = Problem(input_shape=(1, 8, 8), num_classes=10, train_size=200, space="nasbench201")
SPACE = NASBench201Space(NASBench201Settings(width=4, cells=1, operations=("zero", "identity", "3x3")), PROBLEM)
SUPERNET = SPACE.supernet()
CPU = torch.device("cpu")


def job(folder: Path, steps: int = 6, **settings: Any) -> Job:
    asked = DartsSettings.parse({"mixtures": SUPERNET.mixtures} | settings)
    spec = TrialSpec(
        architecture=SUPERNET.architecture,
        training=PLAIN,
        budget=Budget(steps=steps),
        procedure="darts",
        settings=asked.to_data(),
        snapshots=(0.5,),
        instruments=("feature_map",),
    )
    return Job(experiment="e", number=0, seed=1, spec=spec, dataset=DIGITS, folder=str(folder))


def test_strengths_of_a_mixture_are_shared_by_all_its_placements(tmp_path: Path) -> None:
    result = TorchTrainer().train(job(tmp_path, architecture_rate=0.1), datasets.load(DIGITS))
    moved = []
    for options in SUPERNET.mixtures.values():
        shares = [{result.statistics[block]["strength"] for block in blocks} for blocks in options.values()]
        assert all(len(share) == 1 for share in shares)
        assert sum(share.pop() for share in map(set, shares)) == pytest.approx(1.0)
        moved.append(max(abs(share.pop() - 1 / 3) for share in shares))
    assert max(moved) > 0.05, "they learn"
    assert set(result.snapshots[0].statistics) == set(result.statistics)
    block = SUPERNET.mixtures["edge_0_1"]["3x3"][0]
    assert set(result.statistics[block]) == {"mean", "variance", "mean_square", "strength"}
    assert result.cost.steps == 6


def test_resumed_is_as_good_as_uninterrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loop, "REPORT", 0.0)  # every step is reported, however fast the machine
    data, trainer = datasets.load(DIGITS), TorchTrainer()
    whole = figures(trainer.train(job(tmp_path / "whole", architecture_rate=0.1), data), tmp_path / "whole")
    halved = job(tmp_path / "halved", architecture_rate=0.1)
    with pytest.raises(TrialFailure, match="stopped at step"):
        trainer.train(halved, data, stopping_at(2))
    assert figures(trainer.train(halved, data), tmp_path / "halved") == whole


def test_a_mixed_edge_is_the_weighed_sum_of_its_operations() -> None:
    graph = lower(SUPERNET.architecture, (1, 8, 8), 10)
    strengths = Strengths(DartsSettings(mixtures=SUPERNET.mixtures), graph, 3, CPU)
    module = build(graph, 0).eval()
    module.gates = strengths.gates()
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str, value: torch.Tensor) -> torch.Tensor:
        outputs[name] = value
        return value

    names = {block.name: block.output for block in graph.blocks}
    placed = "stage1_cell1/edge_0_1_"
    module.taps = dict.fromkeys(
        [*(names[f"{placed}{op}"] for op in ("zero", "identity", "3x3")), "stage1_cell1/node1"], keep
    )
    module(torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(0)))
    share = strengths.values.detach()[: len(SPACE.operations)].softmax(0)
    source = outputs[names[f"{placed}identity"]] / share[1]
    ungated = build(graph, 0).eval()
    assert torch.allclose(
        outputs["stage1_cell1/node1"], sum(outputs[names[f"{placed}{op}"]] for op in SPACE.operations)
    )
    assert not torch.allclose(ungated(torch.ones(1, 1, 8, 8))[0], module(torch.ones(1, 1, 8, 8))[0])
    assert source.abs().max() > outputs[names[f"{placed}identity"]].abs().max()


def test_the_two_parts_are_disjoint_stratified_and_whole() -> None:
    data = datasets.load(DIGITS)
    weights, strengths = parted(data, 0.5, 7, "darts")
    assert weights.info.sizes["train"] + strengths.info.sizes["train"] == data.info.sizes["train"]
    whole, labels = data.arrays("train")
    joined = np.concatenate([part.arrays("train")[0] for part in (weights, strengths)])
    assert sorted(map(bytes, joined)) == sorted(map(bytes, whole))
    counts = [np.bincount(part.arrays("train")[1], minlength=10) for part in (weights, strengths)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert len(next(weights.batches("train", 16, seed=1))[1]) == 16
    assert np.array_equal(weights.arrays("valid")[1], data.arrays("valid")[1])
    assert labels.size == sum(map(np.sum, counts))


def test_bad_mixtures_and_too_few_images(tmp_path: Path) -> None:
    data = datasets.load(DIGITS)
    with pytest.raises(SpecError, match="no block 'nowhere'"):
        TorchTrainer().train(job(tmp_path / "a", mixtures={"m": {"on": ("nowhere",)}}), data)
    data.streamed = True
    with pytest.raises(TrialFailure, match="must fit in memory"):
        TorchTrainer().train(job(tmp_path / "b"), data)

"""The procedure ``enas``: a path is the network of its own, the controller learns, and it goes on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amla import datasets
from amla.errors import TrialFailure
from amla.spaces.base import SearchSpace, space_of
from amla.spaces.limits import excess
from amla.spec.experiment import Limits, Problem
from amla.spec.lower import lower
from amla.spec.procedures import ControllerSettings, EnasSettings
from amla.spec.training import SGD, AdamW, Budget
from amla.spec.trial import Job, TrialSpec
from amla.testing.trainers import DIGITS, PLAIN, figures, stopping_at
from amla.trainers import loop
from amla.trainers.torch.controller import make_policy
from amla.trainers.torch.enas import Controller
from amla.trainers.torch.module import build
from amla.trainers.torch.trainer import TorchTrainer

SHAPE = (1, 8, 8)
CELLS = Problem(
    input_shape=SHAPE,
    num_classes=10,
    train_size=200,
    space="nasbench201",
    space_settings={"width": 4, "cells": 1, "operations": ["zero", "identity", "3x3"]},
)


def job(
    folder: Path, problem: Problem = CELLS, steps: int = 6, optimizer: Any = PLAIN.optimizer, **settings: Any
) -> Job:
    supernet = space_of(problem).supernet()
    assert supernet is not None
    asked = EnasSettings.parse({"problem": problem, "candidates": 3} | settings)
    spec = TrialSpec(
        architecture=supernet.architecture,
        training=PLAIN.model_copy(update={"optimizer": optimizer}),
        budget=Budget(steps=steps),
        procedure="enas",
        settings=asked.to_data(),
    )
    return Job(experiment="e", number=0, seed=1, spec=spec, dataset=DIGITS, folder=str(folder))


def path_and_network(space: SearchSpace, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the supernet gives with everything else off, and a network of its own with the same weights."""
    problem = space.problem
    supernet = space.supernet()
    assert supernet is not None
    whole = lower(supernet.architecture, problem.input_shape, problem.num_classes)
    controller = Controller(EnasSettings(problem=problem), whole, seed)
    network = space.sample(np.random.default_rng(seed))
    path, alone = build(whole, 5), build(lower(network, problem.input_shape, problem.num_classes))
    path.close(controller.off(network))
    weights = path.state_dict()
    operation = {block.name: block.kind for block in alone.graph.blocks}

    def shared(name: str) -> str:
        place, edge, rest = name.split("/", 2) if name.count("/") > 1 else (name, "", "")
        kind = operation.get(f"{place}/{edge}")
        known = f"{place}/{edge}_{kind}/{rest}"
        return known if known in weights else name

    alone.load_state_dict({name: weights[shared(name)] for name in alone.state_dict()})
    x = torch.randn((3, *problem.input_shape), generator=torch.Generator().manual_seed(seed))
    return path.eval()(x)[0], alone.eval()(x)[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_path_is_the_network_of_its_own_with_the_same_weights(seed: int) -> None:
    path, alone = path_and_network(space_of(CELLS), seed)
    assert torch.allclose(path, alone, atol=1e-5)


def test_a_path_computes_nothing_else() -> None:
    space = space_of(CELLS)
    supernet = space.supernet()
    assert supernet is not None
    graph = lower(supernet.architecture, SHAPE, 10)
    controller = Controller(EnasSettings(problem=CELLS), graph, 0)
    module = build(graph, 0)
    module.close(controller.off(space.decode(dict.fromkeys(space.decisions(), "identity"))))
    module(torch.zeros((2, *SHAPE)))[0].sum().backward()
    moved = {name for name, weight in module.named_parameters() if weight.grad is not None}
    assert not [name for name in moved if "_3x3/" in name]
    assert any(name.startswith("stem") for name in moved)


@pytest.mark.parametrize("controller", ["lstm", "factorised"])
def test_the_controller_learns_what_is_rewarded(controller: str) -> None:
    decisions = {"a": ("x", "y", "z"), "b": ("x", "y", "z"), "c": ("on", "off")}
    settings = ControllerSettings.parse({"controller": controller, "hidden": 16, "temperature": 1.0})
    policy = make_policy(decisions, settings, 0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.01)
    wanted, baseline = {"a": "y", "b": "z", "c": "off"}, 0.0
    for step in range(500):
        sample = policy(torch.Generator().manual_seed(step))
        reward = sum(sample.taken[name] == option for name, option in wanted.items()) / 3
        baseline = 0.9 * baseline + 0.1 * reward
        (-(reward - baseline) * sample.log_probability - 0.02 * sample.entropy).backward()
        optimizer.step()
        optimizer.zero_grad()
    drawn = [policy(torch.Generator().manual_seed(1000 + number)).taken for number in range(20)]
    assert sum(taken == wanted for taken in drawn) > 12


def test_probability_and_entropy_of_a_sample() -> None:
    policy = make_policy({"a": ("x", "y"), "b": ("u", "v", "w")}, ControllerSettings(controller="factorised"), 0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
    with torch.no_grad():
        sample = policy(torch.Generator().manual_seed(0))
    assert float(sample.log_probability) == pytest.approx(-np.log(6))
    assert float(sample.entropy) == pytest.approx(np.log(6))


@pytest.mark.parametrize("optimizer", [PLAIN.optimizer, SGD(), AdamW()], ids=["momentum", "sgd", "adamw"])
def test_resumed_is_as_good_as_uninterrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, optimizer: Any) -> None:
    monkeypatch.setattr(loop, "REPORT", 0.0)  # every step is reported, however fast the machine
    data, trainer = datasets.load(DIGITS), TorchTrainer()
    asked: dict[str, Any] = {"optimizer": optimizer, "controller_rate": 0.05, "warmup": 0.0}
    whole = figures(trainer.train(job(tmp_path / "whole", **asked), data), tmp_path / "whole")
    halved = job(tmp_path / "halved", **asked)
    with pytest.raises(TrialFailure, match="stopped at step"):
        trainer.train(halved, data, stopping_at(2))
    assert figures(trainer.train(halved, data), tmp_path / "halved") == whole


@pytest.mark.parametrize("space", ["nasbench201", "envelope"])
def test_candidates_and_strengths(tmp_path: Path, space: str) -> None:
    settings: dict[str, Any] = CELLS.space_settings if space == "nasbench201" else {"width": 6, "layers": [1, 1]}
    limits = Limits(max_params=6000)
    problem = CELLS.model_copy(update={"space": space, "space_settings": settings, "limits": limits})
    result = TorchTrainer().train(job(tmp_path, problem), datasets.load(DIGITS))
    assert 1 <= len(result.candidates) <= 3
    assert all(excess(candidate.architecture, problem) is None for candidate in result.candidates)
    accuracies = [candidate.accuracy for candidate in result.candidates]
    assert accuracies == sorted(accuracies, reverse=True)
    supernet = space_of(problem).supernet()
    assert supernet is not None
    blocks = {block for options in supernet.mixtures.values() for own in options.values() for block in own}
    assert {block for block, values in result.statistics.items() if "strength" in values} == blocks
    assert all(0.0 <= values["strength"] <= 1.0 for values in result.statistics.values())

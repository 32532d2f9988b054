"""The procedure ``score``: every score against its definition, worked out another way."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from amla import artifacts, datasets
from amla.spec import architecture as a
from amla.spec.costs import costs
from amla.spec.lower import lower
from amla.spec.procedures import SCORES, ScoreSettings
from amla.spec.training import Budget
from amla.spec.trial import Job, TrialSpec
from amla.testing.trainers import DIGITS, every_operation, network, stacked_cells
from amla.trainers.torch.module import build, by_batch
from amla.trainers.torch.score import (
    activation_codes,
    entropy,
    naswot,
    primary_blocks,
    scored,
    swap,
    synflow,
    trainability,
)
from amla.trainers.torch.trainer import TorchTrainer

SHAPE = (1, 8, 8)


def job(folder: Path, architecture: a.Architecture, seed: int = 1, images: int = 0) -> Job:
    asked = ScoreSettings(images=16, seed=images)
    spec = TrialSpec(architecture=architecture, budget=Budget(steps=1), procedure="score", settings=asked.to_data())
    return Job(experiment="e", number=0, seed=seed, spec=spec, dataset=DIGITS, folder=str(folder))


@pytest.mark.parametrize("architecture", [network(), every_operation(), stacked_cells()], ids=["nac", "macro", "micro"])
def test_all_scores_of_any_network(tmp_path: Path, architecture: a.Architecture) -> None:
    data = datasets.load(DIGITS)
    result = TorchTrainer().train(job(tmp_path, architecture), data)
    assert set(result.scores) == set(SCORES)
    assert all(not math.isnan(value) for value in result.scores.values())
    found = costs(lower(architecture, data.info.input_shape, data.info.num_classes))
    assert (result.scores["params"], result.scores["flops"]) == (found.parameters, found.flops)
    assert (result.parameters, result.flops, result.size_mb) == (found.parameters, found.flops, found.size_mb)
    assert result.metrics == {}
    assert result.cost.steps == 0
    assert artifacts.read(str(tmp_path), "model.safetensors") is None


def test_the_seed_decides(tmp_path: Path) -> None:
    data, trainer = datasets.load(DIGITS), TorchTrainer()
    one, again, other = (trainer.train(job(tmp_path, network(), seed), data).scores for seed in (1, 1, 2))
    assert one == again
    assert one["naswot"] != other["naswot"]
    images = trainer.train(job(tmp_path, network(), 1, images=5), data).scores
    assert images["naswot"] != one["naswot"]
    assert images["synflow"] == one["synflow"], "it sees no image"


def test_codes_of_activations() -> None:
    rng = np.random.default_rng(0)
    for images, units in ((2, 1), (9, 40), (16, 300)):
        codes = rng.random((images, units)) < 0.5
        agreeing = [[float((codes[i] == codes[j]).sum()) for j in range(images)] for i in range(images)]
        determinant = np.linalg.det(np.array(agreeing) / units)
        expected = math.log(determinant) + images * math.log(units) if determinant > 1e-12 else -math.inf
        assert naswot(torch.from_numpy(codes)) == pytest.approx(expected, abs=1e-4)
        assert swap(torch.from_numpy(codes)) == len({tuple(unit) for unit in codes.T})
    assert naswot(torch.ones((3, 5), dtype=torch.bool)) == -math.inf
    assert swap(torch.zeros((4, 0), dtype=torch.bool)) == 0


def test_codes_are_those_of_the_activations() -> None:
    module = by_batch(build(lower(network(), SHAPE, 10).inference(), 3))
    images = torch.randn((6, *SHAPE), generator=torch.Generator().manual_seed(1))
    codes = activation_codes(module, images)
    outputs = sum(math.prod(node.shape) for node in module.graph.nodes if node.op == "activation")
    assert codes.shape == (6, outputs)
    assert 0.2 < float(codes.float().mean()) < 0.8
    assert not module.taps


def test_synapses_of_a_chain_carry_the_same_flow() -> None:
    """In a chain the weights of every layer carry what comes out, biases aside (arXiv 2006.05467 theorem 1)."""
    layers = tuple(
        a.Layer(name=f"layer{n}", branches=(a.Branch(name="b", operation=op, channels=5),))
        for n, op in enumerate(("3x3", "1x1"), 1)
    )
    chain = a.MacroArchitecture(
        stem=(a.ConvStep(channels=4),),
        stages=(a.Stage(name="stage1", layers=layers),),
        head=(a.GlobalPoolStep(), a.DenseStep()),
    )
    module = build(lower(chain, SHAPE, 10).inference(), 2)
    x = torch.ones((1, *SHAPE), dtype=torch.float64)
    for name, weight in module.named_parameters():
        value = weight.detach().abs().double()
        if name.endswith("conv.weight"):
            x = torch.nn.functional.conv2d(x, value, padding=value.shape[2] // 2)
        elif value.ndim == 2:
            flow = float((x.mean((2, 3)) @ value.T).sum())
    assert synflow(module) == pytest.approx(math.log(4 * flow))


def test_entropy_of_features() -> None:
    generator = torch.Generator().manual_seed(0)
    independent = torch.randn((64, 4, 8, 8), generator=generator)
    assert entropy(independent) == pytest.approx(math.log(4), abs=0.01)
    assert entropy(independent[:, :1].repeat(1, 4, 1, 1)) == pytest.approx(0.0, abs=1e-6)
    assert entropy(torch.ones((2, 3, 4, 4))) == 0.0


@pytest.mark.parametrize("gain", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("stride", [1, 2])
def test_trainability_is_best_where_gradients_keep_their_size(gain: float, stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn((4, 4), generator=generator))[0]
    before = torch.randn((256, 4, 16, 16), generator=generator, requires_grad=True)
    after = torch.nn.functional.conv2d(before, gain * rotation[:, :, None, None], stride=stride)
    assert trainability(before, after, generator) == pytest.approx(2.0 - gain - 1.0 / gain, abs=0.1)


def test_what_cannot_be_trained_is_least_trainable() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn((2, 4, 4, 4), requires_grad=True)
    assert trainability(before, before * 1.0, generator) == -math.inf
    assert trainability(before, before * 0.0, generator) == -math.inf
    assert trainability(before, torch.zeros_like(before), generator) == -math.inf
    other = torch.ones(3, requires_grad=True)
    assert trainability(other, before * 2.0, generator) == -math.inf


def test_primary_blocks_are_layers_and_cells() -> None:
    macro = every_operation()
    assert primary_blocks(macro, lower(macro, SHAPE, 10).inference()) == [
        "s1/a/out",
        "s1/widener/out",
        "s2/a/out",
        "s2/widener/pool",
    ]
    micro = stacked_cells()
    graph = lower(micro, SHAPE, 10).inference()
    blocks = primary_blocks(micro, graph)
    assert [name.split("/")[0] for name in blocks] == ["c1", "c2"]
    assert all(graph.node(name).shape[0] == 8 for name in blocks)


def test_one_block_has_no_steps_between_blocks() -> None:
    lone = network(layers=1)
    graph = lower(lone, SHAPE, 10).inference()
    found = scored(lone, graph, torch.randn((4, *SHAPE)), ("progressivity", "trainability"), 0)
    assert found == {"progressivity": 0.0, "trainability": 0.0}

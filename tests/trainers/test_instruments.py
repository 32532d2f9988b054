"""Instruments against a straightforward computation."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from amla.spec.graph import (
    ActivationNode,
    AddNode,
    Block,
    ConvNode,
    DenseNode,
    GlobalPoolNode,
    Graph,
    IdentityNode,
    InputNode,
    ZeroNode,
)
from amla.spec.lower import lower
from amla.spec.trial import INSTRUMENTS
from amla.testing.trainers import network
from amla.trainers.instruments import EVERY, entropy
from amla.trainers.torch.instruments import TIMED, Instruments
from amla.trainers.torch.module import build

CPU = torch.device("cpu")


def test_feature_map_statistics_are_the_straightforward_ones() -> None:
    graph = lower(network(dropout=0.0), (1, 8, 8), 10)
    module = build(graph, seed=1).train()
    instruments = Instruments(graph, ["feature_map", "feature_map_before_norm", "covariance_entropy"], CPU)
    kept: dict[str, list[np.ndarray]] = {}
    rng = torch.Generator().manual_seed(0)
    for step in range(3 * EVERY):
        images = torch.randn(16, 1, 8, 8, generator=rng)
        instruments.listen(module, step)
        if step % EVERY == 0:
            own = dict(module.taps)

            def both(name: str, value: torch.Tensor, own: dict = own) -> torch.Tensor:  # type: ignore[type-arg]
                kept.setdefault(name, []).append(value.detach().numpy().astype(np.float64))
                return own[name](name, value)

            module.taps = dict.fromkeys(own, both)
        module(images)
    found = instruments.read(module)
    for block in graph.blocks:
        if block.kind == "skip":
            continue
        for node, suffix in ((block.output, ""), (block.before_norm, "_before_norm")):
            x = np.concatenate(kept[node])
            mean, square = x.mean(0), (x**2).mean(0)
            assert found[block.name][f"mean{suffix}"] == pytest.approx(mean.mean(), rel=1e-5, abs=1e-7)
            assert found[block.name][f"mean_square{suffix}"] == pytest.approx(square.mean(), rel=1e-5)
            assert found[block.name][f"variance{suffix}"] == pytest.approx((square - mean**2).mean(), rel=1e-4)
        flat = np.concatenate(kept[block.output]).transpose(1, 0, 2, 3).reshape(4, -1)
        eigenvalues = np.linalg.eigvalsh(np.cov(flat, bias=True)).clip(0)
        share = eigenvalues / eigenvalues.sum()
        entropy = -(share * np.log(share.clip(1e-30))).sum() / np.log(4)
        assert found[block.name]["covariance_entropy"] == pytest.approx(entropy, rel=1e-3)


def test_taylor_is_the_change_of_the_loss_to_first_order() -> None:
    graph = lower(network(dropout=0.0), (1, 8, 8), 10)
    module = build(graph, seed=1).train()
    instruments = Instruments(graph, ["taylor"], CPU)
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8)
    instruments.listen(module, 0)
    kept: dict[str, torch.Tensor] = {}
    own = dict(module.taps)

    def both(name: str, value: torch.Tensor) -> torch.Tensor:
        kept[name] = value
        value.retain_grad()
        return own[name](name, value)

    module.taps = dict.fromkeys(own, both)
    F.cross_entropy(module(images)[0], labels).backward()
    for block in graph.blocks:
        if block.kind != "skip":
            x = kept[block.output]
            assert x.grad is not None
            expected = (x.detach() * x.grad).mean((2, 3)).abs().mean() * len(images)
            assert instruments.read(module)[block.name]["taylor"] == pytest.approx(expected.item(), rel=1e-4)


def four_ways() -> Graph:
    """An activation, an identity, zeros and a sum of the three."""
    shape = (2, 3, 3)
    kinds = {"a": ActivationNode, "b": IdentityNode, "c": ZeroNode}
    return Graph(
        nodes=(
            InputNode(name="input", inputs=(), shape=shape),
            ConvNode(name="conv", inputs=("input",), shape=shape, kernel=1),
            *(kind(name=f"{name}/op", inputs=("conv",), shape=shape) for name, kind in kinds.items()),
            AddNode(name="sum", inputs=("a/op", "b/op", "c/op"), shape=shape),
            GlobalPoolNode(name="pool", inputs=("sum",), shape=(2,)),
            DenseNode(name="dense", inputs=("pool",), shape=(2,)),
        ),
        output="dense",
        blocks=tuple(Block(name=name, kind="x", before_norm=f"{name}/op", output=f"{name}/op") for name in kinds),
    )


def test_taylor_follows_each_way_alone() -> None:
    """The gradient of an identity is that of its own way, not that of all ways out of its input; zeros have none."""
    graph = four_ways()
    module = build(graph, seed=3).train()
    instruments = Instruments(graph, tuple(INSTRUMENTS), CPU)
    images, labels = torch.randn(4, 2, 3, 3), torch.tensor([0, 1, 1, 0])
    instruments.listen(module, 0)
    logits = module(images)[0]
    F.cross_entropy(logits, labels).backward()
    found = instruments.read(module)
    slope = (logits.softmax(1) - F.one_hot(labels, 2)) @ module.get_submodule("dense").weight / 9
    x = module.get_submodule("conv")(images)
    expected = (x.mean((2, 3)) * slope).abs().mean()
    assert found["b"]["taylor"] == pytest.approx(expected.item(), rel=1e-4)
    assert found["a"]["taylor"] != pytest.approx(expected.item(), rel=1e-2)
    assert found["c"]["taylor"] == found["c"]["mean_square"] == found["c"]["covariance_entropy"] == 0.0


def test_instruments_leave_the_gradients_alone() -> None:
    for graph in (four_ways(), lower(network(layers=3, dropout=0.0), (2, 3, 3), 2)):
        images, labels = torch.randn(8, 2, 3, 3), torch.arange(8) % 2
        gradients = []
        for names in ((), tuple(INSTRUMENTS)):
            module = build(graph, seed=1).train()
            Instruments(graph, names, CPU).listen(module, 0)
            F.cross_entropy(module(images)[0], labels).backward()
            gradients.append({name: p.grad for name, p in module.named_parameters() if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_sums_are_over_samples_and_do_not_grow() -> None:
    graph = lower(network(), (1, 8, 8), 10)
    module = build(graph, seed=1).train()
    instruments = Instruments(graph, tuple(INSTRUMENTS), CPU)
    sizes = []
    for step in range(2 * EVERY):
        instruments.listen(module, step)
        module(torch.randn(6, 1, 8, 8))
        sizes.append(sum(value.numel() for value in instruments.state().values()))
    assert len(set(sizes)) == 1
    block = graph.blocks[0]
    assert instruments.sums[f"{block.name}:feature_map:count"] == 2 * 6


def test_time_is_the_shortest_look_and_without_what_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = four_ways()
    module = build(graph, seed=3).train()
    instruments = Instruments(graph, ("block_time", "feature_map"), CPU)
    ticks = itertools.count()
    monkeypatch.setattr("amla.trainers.torch.instruments.time.perf_counter", lambda: float(next(ticks)))
    listened = []
    for step in (0, 1, EVERY, 2 * EVERY, TIMED):
        instruments.listen(module, step)
        listened.append("a/op" in module.taps)
        module(torch.randn(4, 2, 3, 3))
    assert listened == [True, False, True, True, True]
    found = instruments.read(module)
    assert {block: values["seconds"] for block, values in found.items()} == {"a": 1.0, "b": 1.0, "c": 1.0}


def test_entropy_is_one_where_directions_are_alike_and_nought_where_there_is_one() -> None:
    assert entropy(np.eye(4)) == pytest.approx(1.0)
    assert entropy(np.ones((3, 3))) == pytest.approx(0.0, abs=1e-6)
    assert entropy(np.zeros((3, 3))) == entropy(np.ones((1, 1))) == 0.0
    assert np.isnan(entropy(np.full((2, 2), np.nan)))

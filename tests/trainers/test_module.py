"""Graph -> module: names, shapes, numbers of parameters and operations, and what each operation computes."""

import json
import weakref
from pathlib import Path

import pytest
import torch
from hypothesis import given
from torch.utils.flop_counter import FlopCounterMode

from amla.spec import amla0
from amla.spec import architecture as a
from amla.spec.costs import costs
from amla.spec.graph import ConvNode, GlobalPoolNode, Graph, InputNode, LRNNode, NormNode, PoolNode, weights
from amla.spec.lower import lower
from amla.testing.strategies import architectures
from amla.testing.trainers import network
from amla.trainers.cells import useful_taps
from amla.trainers.torch.module import Conv, Norm, build, local_response_norm, pool


@given(architectures())
def test_the_built_module_is_the_graph(architecture: a.MacroArchitecture | a.MicroArchitecture) -> None:
    graph = lower(architecture, (3, 8, 8), 5)
    module = build(graph)
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == {
        weight.name: weight.shape for weight in weights(graph)
    }
    bare = build(graph.inference()).eval()
    assert sum(parameter.numel() for parameter in bare.parameters()) == costs(graph).parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        bare(torch.zeros(1, 3, 8, 8))
    assert counter.get_total_flops() == 2 * costs(graph).flops
    images = torch.randn(2, 3, 8, 8)
    logits, auxiliaries = module.train()(images)
    assert logits.shape == (2, 5)
    assert [auxiliary.shape for auxiliary in auxiliaries] == [(2, 5)] * len(graph.auxiliaries)
    assert torch.isfinite(logits).all()


def test_what_exists_for_training_only_changes_no_prediction() -> None:
    graph = lower(network(layers=3), (1, 8, 8), 10)
    whole = build(graph, seed=3).eval()
    bare = build(graph.inference()).eval()
    bare.load_state_dict({name: whole.state_dict()[name] for name in bare.state_dict()})
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(whole(images)[0], bare(images)[0])


def test_every_node_has_the_shape_that_the_graph_says() -> None:
    graph = lower(network(layers=3), (1, 9, 7), 10)
    module = build(graph)
    seen: dict[str, tuple[int, ...]] = {}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = tuple(value.shape[1:])
        return value

    module.taps = {node.name: tap for node in graph.nodes}
    module(torch.randn(2, 1, 9, 7))
    assert seen == {node.name: node.shape for node in graph.nodes}


@pytest.mark.parametrize(
    ("kernel", "side", "channels", "groups"),
    [(5, 1, 128, 1), (7, 2, 128, 1), (7, 1, 128, 1), (7, 2, 128, 128), (5, 4, 16, 1)],
)
def test_the_weight_gradient_is_right_in_bfloat16(kernel: int, side: int, channels: int, groups: int) -> None:
    """torch 2.13 leaves uninitialised memory there where a kernel reaches past a small input."""
    node = ConvNode(name="c", inputs=("x",), shape=(channels, side, side), kernel=kernel, groups=groups)
    conv = Conv(node, (channels, side, side))
    torch.manual_seed(0)
    conv.reset()
    images, upstream = torch.randn(16, channels, side, side), torch.randn(16, channels, side, side)
    gradients = []
    for enabled in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = conv(images)
        (out.float() * upstream).sum().backward()
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad.clone())
    exact, found = gradients
    assert (exact - found).norm() / exact.norm() < 0.02
    spare = max(0, (kernel - (2 * side - 1)) // 2)
    assert conv.taps == ((spare, kernel - spare),) * 2
    assert not found[:, :, :spare].any()
    assert not found[:, :, :, kernel - spare :].any()


def test_local_response_norm_is_the_formula() -> None:
    node = LRNNode(name="n", inputs=("x",), shape=(7, 1, 1), size=3, alpha=0.5, beta=0.75, bias=2.0)
    x = torch.randn(2, 7, 3, 3)
    expected = torch.empty_like(x)
    for c in range(7):
        window = x[:, max(0, c - 1) : c + 2].square().sum(1)
        expected[:, c] = x[:, c] / (2.0 + 0.5 * window) ** 0.75
    assert torch.allclose(local_response_norm(node, x), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [1, 4, 7])
def test_pooling_counts_real_pixels_only(kind: str, kernel: int, stride: int, side: int) -> None:
    node = PoolNode.parse(
        {
            "name": "p",
            "inputs": ["x"],
            "shape": [1, -(-side // stride), -(-side // stride)],
            "kind": kind,
            "kernel": kernel,
            "stride": stride,
        }
    )
    x = torch.randn(1, 1, side, side)
    before = (kernel - 1) // 2
    out = pool(node, x)
    assert out.shape[2:] == (-(-side // stride),) * 2
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            top, left = row * stride - before, column * stride - before
            window = x[0, 0, max(0, top) : top + kernel, max(0, left) : left + kernel]
            expected = window.max() if kind == "max" else window.mean()
            assert torch.isclose(out[0, 0, row, column], expected, atol=1e-6)


def test_the_graph_of_one_input_is_the_input() -> None:
    graph = Graph(nodes=(InputNode(name="input", inputs=(), shape=(2, 1, 1)),), output="input")
    x = torch.randn(1, 2, 1, 1)
    assert torch.equal(build(graph)(x)[0], x)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("side", [(1, 1), (4, 3), (5, 8)])
def test_a_convolution_is_padded_as_the_graph_says(
    kernel: int, stride: int, dilation: int, side: tuple[int, int]
) -> None:
    height, width = (-(-pixels // stride) for pixels in side)
    node = ConvNode(
        name="c", inputs=("x",), shape=(2, height, width), kernel=kernel, stride=stride, dilation=dilation, bias=True
    )
    conv = Conv(node, (3, *side))
    torch.manual_seed(0)
    conv.reset()
    x = torch.randn(1, 3, *side)
    out = conv(x)
    assert out.shape == (1, 2, height, width)
    before = (kernel - 1) * dilation // 2
    for row in range(height):
        for column in range(width):
            expected = torch.zeros(2)
            for i in range(kernel):
                for j in range(kernel):
                    y, z = row * stride + i * dilation - before, column * stride + j * dilation - before
                    if 0 <= y < side[0] and 0 <= z < side[1]:
                        expected += conv.weight[:, :, i, j].detach() @ x[0, :, y, z]
            assert torch.allclose(out[0, :, row, column], expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (7, 1), (4, 1), (5, 2), (5, 3), (2, 2)])
@pytest.mark.parametrize("side", [(1, 1), (1, 9), (2, 3), (4, 4)])
@pytest.mark.parametrize("stride", [1, 2])
def test_cutting_useless_taps_changes_nothing(kernel: int, dilation: int, side: tuple[int, int], stride: int) -> None:
    shape = (4, *(-(-pixels // stride) for pixels in side))
    node = ConvNode(name="c", inputs=("x",), shape=shape, kernel=kernel, dilation=dilation, stride=stride)
    conv = Conv(node, (4, *side)).double()
    torch.manual_seed(0)
    conv.reset()
    x = torch.randn(2, 4, *side, dtype=torch.float64)
    whole = conv(x)
    with torch.autocast("cpu", torch.bfloat16):  # float64 stays as it is
        cut = conv(x)
    assert torch.allclose(whole, cut)
    first, last = useful_taps(kernel, dilation, side[0])
    assert conv.taps[0] == (first, last)


def test_a_norm_is_centred_and_scaled_where_asked() -> None:
    x = torch.randn(8, 3, 4, 4) * 3 + 1
    for scale in (True, False):
        norm = Norm(NormNode(name="n", inputs=("x",), shape=(3, 4, 4), scale=scale, epsilon=1e-3, momentum=0.3))
        norm.reset()
        assert (norm.weight is not None) == scale
        with torch.no_grad():
            norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
            if norm.weight is not None:
                norm.weight.mul_(2.0)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        out = norm(x)
        expected = (x - mean.view(-1, 1, 1)) / (variance.view(-1, 1, 1) + 1e-3).sqrt() * (2.0 if scale else 1.0)
        assert torch.allclose(out, expected + norm.bias.view(-1, 1, 1), atol=1e-5)
        assert torch.allclose(norm.running_mean, 0.3 * mean, atol=1e-5)
        norm.eval()
        expected = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + 1e-3).sqrt()
        assert torch.allclose(norm(x), expected * (2.0 if scale else 1.0) + norm.bias.view(-1, 1, 1), atol=1e-5)


def test_a_norm_of_one_value_a_channel_uses_the_running_ones() -> None:
    norm = Norm(NormNode(name="n", inputs=("x",), shape=(3, 1, 1)))
    x = torch.randn(1, 3, 1, 1)
    assert torch.allclose(norm.train()(x), norm.eval()(x))
    assert not norm.running_mean.any()


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone() -> None:
    graph = lower(network(), (1, 8, 8), 10)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (build(graph, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["head/dense2.weight"], other["head/dense2.weight"])


def test_outputs_are_let_go_after_their_last_use() -> None:
    """A chain of nodes holds two outputs at a time, not all."""
    nodes = [InputNode(name="n0", inputs=(), shape=(1, 64, 64))]
    nodes += [
        PoolNode(name=f"n{i}", inputs=(f"n{i - 1}",), shape=(1, 64, 64), kind="max", kernel=3, stride=1)
        for i in range(1, 9)
    ]
    nodes.append(GlobalPoolNode(name="end", inputs=("n8",), shape=(1,)))
    module = build(Graph(nodes=tuple(nodes), output="end")).eval()
    alive: list[int] = []
    held: list[weakref.ref[torch.Tensor]] = []

    def tap(_: str, value: torch.Tensor) -> torch.Tensor:
        held.append(weakref.ref(value))
        alive.append(sum(ref() is not None for ref in held))
        return value

    module.taps = {node.name: tap for node in nodes}
    with torch.no_grad():
        module(torch.randn(1, 1, 64, 64))
    assert max(alive) <= 3


def test_the_final_network_of_the_paper_is_built_as_counted(task_files: Path) -> None:
    spec, _ = amla0.convert(json.loads((task_files / "config.nac.final.json").read_text()))
    graph = lower(a.parse_architecture(spec.settings["architecture"]), (3, 32, 32), 10).inference()
    module = build(graph).eval()
    assert sum(p.numel() for p in module.parameters()) == costs(graph).parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == 2 * costs(graph).flops

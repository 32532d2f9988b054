"""Cells computed together give what their nodes give one by one, forward and backward, and leave the same state."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec import architecture as a
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.trial import INSTRUMENTS
from amla.testing.strategies import architectures
from amla.trainers.cells import cells_of
from amla.trainers.switched import WHOLE
from amla.trainers.torch.cells import Fused, Rule, scaled_of
from amla.trainers.torch.instruments import Instruments
from amla.trainers.torch.kernels import RULES
from amla.trainers.torch.module import GraphModule, build, by_batch, capture

OPERATIONS = (
    "1x1",
    "2x2",
    "3x3",
    "3x3sep",
    "4x4",
    "5x5",
    "5x5sep",
    "7x7sep",
    "9x9",
    "3x3dil2",
    "5x5dil2",
    "3x3maxpool",
    "identity",
)


@st.composite
def networks(draw: st.DrawFn) -> a.MacroArchitecture:
    """Layers of any branches and widths, of any style, with skips."""

    def layer(number: int) -> a.Layer:
        operations = draw(st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=6))
        branches = tuple(
            a.Branch(name=f"branch{i}", operation=operation, channels=draw(st.integers(1, 4)))
            for i, operation in enumerate(operations, 1)
        )
        skips = draw(st.sampled_from((None, (), ("stage1/layer1",)))) if number > 2 else None
        return a.Layer(name=f"layer{number}", branches=branches, skips=skips)

    style = a.Style(
        order=draw(st.sampled_from(("conv_norm_act", "act_conv_norm"))),
        norm=draw(st.sampled_from((True, True, False))),
        norm_scale=draw(st.booleans()),
        activation=draw(st.sampled_from(("relu", "silu"))),
        separable_repeats=draw(st.integers(1, 2)),
    )
    first = tuple(layer(n) for n in range(1, 4))
    stages = (
        a.Stage(name="stage1", layers=first, widener=a.Widener(kind="pool_conv", channels=5)),
        a.Stage(
            name="stage2",
            layers=(a.Layer(name="layer1", branches=first[0].branches, skips=("stage1/layer1", "stage1/layer2")),),
        ),
    )
    stem = (a.ConvStep(channels=draw(st.integers(1, 6))), a.LRNStep()) if draw(st.booleans()) else ()
    return a.MacroArchitecture(stem=stem, stages=stages, head=(a.GlobalPoolStep(), a.DenseStep()), style=style)


def joined(graph: Graph, rule: Rule) -> GraphModule:
    module = build(graph, seed=1)
    module.join([*(Fused(cell, rule) for cell in cells_of(graph)), *scaled_of(graph)])
    return module


def answers(module: GraphModule, images: Tensor) -> dict[str, Tensor]:
    """Logits, gradients and running statistics of a few steps, then logits in evaluation."""
    module.double().train()
    found = {}
    for step in range(2):
        x = images.double().requires_grad_()
        logits, auxiliaries = module(x)
        weighted = logits * torch.arange(1.0, logits.shape[1] + 1)
        loss = weighted.square().sum() + sum(other.sum() for other in auxiliaries)
        found |= {f"{step}/logits": logits.detach()}
        named = dict(module.named_parameters())
        gradients = torch.autograd.grad(loss, [x, *named.values()], allow_unused=True)
        for name, gradient in zip(["images", *named], gradients, strict=True):
            found[f"{step}/gradient/{name}"] = torch.zeros(()) if gradient is None else gradient
    found |= {name: value.clone() for name, value in module.named_buffers()}
    with torch.no_grad():
        found["evaluated"] = module.eval()(images.double())[0]
    return found


def assert_same(one: Mapping[str, Tensor], two: Mapping[str, Tensor], **tolerance: float) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@given(networks(), st.sampled_from(RULES), st.sampled_from(((3, 8, 8), (1, 5, 7), (2, 2, 2))))
def test_any_network_gives_the_same_together(
    architecture: a.MacroArchitecture, rule: Rule, shape: tuple[int, int, int]
) -> None:
    graph = lower(architecture, shape, 4)
    images = torch.randn((3, *shape), generator=torch.Generator().manual_seed(0))
    assert_same(answers(build(graph, seed=1), images), answers(joined(graph, rule), images), rtol=1e-6, atol=1e-8)


@given(architectures(), st.sampled_from(RULES))
def test_any_architecture_of_the_documents_gives_the_same_together(
    architecture: a.MacroArchitecture | a.MicroArchitecture, rule: Rule
) -> None:
    graph = lower(architecture, (3, 8, 8), 5)
    if any(node.op in ("dropout", "cutout") for node in graph.nodes):
        graph = graph.inference()
    images = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    assert_same(answers(build(graph, seed=1), images), answers(joined(graph, rule), images), rtol=1e-6, atol=1e-8)


@given(networks(), st.sampled_from(RULES), st.booleans())
def test_any_block_switched_off_gives_the_same_from_where_it_differs(
    architecture: a.MacroArchitecture, rule: Rule, skips: bool
) -> None:
    graph = lower(architecture, (3, 8, 8), 3)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    names = [block.output for block in graph.blocks if skips or block.kind != "skip"]
    with torch.no_grad():
        found = dict(by_batch(joined(graph, rule)).logits_without(images, names))
        for name in (WHOLE, *names):
            module = by_batch(build(graph, seed=1))
            module.close([name] if name else [])
            torch.testing.assert_close(found.get(name, found[WHOLE]), module(images)[0], rtol=1e-4, atol=1e-4)


def test_a_block_switched_off_leaves_off_what_is_off_and_gates_as_they_are() -> None:
    graph = envelope()
    images = torch.randn(4, *graph.input_shape, generator=torch.Generator().manual_seed(0))
    module = by_batch(joined(graph, RULES[0]))
    one, other, gated = (block.output for block in graph.blocks[:3])
    module.gates = {gated: torch.tensor(0.5)}
    module.close([one])
    with torch.no_grad():
        found = dict(module.logits_without(images, [other]))
        torch.testing.assert_close(found[WHOLE], module(images)[0])
        module.close([one, other])
        torch.testing.assert_close(found[other], module(images)[0])


def envelope(scale: bool = True, dropout: float = 0.0) -> Graph:
    problem = Problem(input_shape=(3, 8, 8), num_classes=4, train_size=100)
    settings = EnvelopeSettings(width=12, layers=(3, 2), style=a.Style(norm_scale=scale, dropout=dropout))
    return lower(EnvelopeSpace(settings, problem).initial(), (3, 8, 8), 4)


def test_every_layer_of_an_envelope_is_a_cell_and_every_skip_is_folded() -> None:
    graph = envelope()
    layers = {block.name.rsplit("/", 1)[0] for block in graph.blocks if block.kind != "skip"}
    assert {cell.out.name.removesuffix("/out") for cell in cells_of(graph)} >= layers
    skips = {block.output for block in graph.blocks if block.kind == "skip"}
    assert {node.name for scaled in scaled_of(graph) for node in scaled.scales} == skips != set()


@pytest.mark.parametrize("rule", RULES)
def test_what_is_dropped_is_dropped_from_what_there_is(rule: Rule) -> None:
    graph = envelope(dropout=0.25)
    module = joined(graph, rule)
    cell = next(cell for cell in cells_of(graph) if len(cell.branches) > 1)
    seen: dict[str, Tensor] = {}
    branch = cell.branches[0]
    assert branch.dropout is not None
    module.taps = capture([branch.activation.name, branch.dropout.name, cell.out.name], seen)
    module(torch.randn(8, 3, 8, 8))
    before, after = seen[branch.activation.name], seen[branch.dropout.name]
    kept = after != 0
    torch.testing.assert_close(after[kept], before[kept] / 0.75)
    assert 0.5 < kept[before != 0].float().mean() < 0.95
    assert torch.equal(seen[cell.out.name][:, : after.shape[1]], after)


@pytest.mark.parametrize("rule", RULES)
def test_instruments_see_the_same_and_change_nothing(rule: Rule) -> None:
    graph = envelope()
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    read = []
    for module in (build(graph, seed=1), joined(graph, rule)):
        instruments = Instruments(graph, INSTRUMENTS, torch.device("cpu"))
        instruments.listen(module.double(), 0)
        torch.manual_seed(0)  # the head has a dropout
        module(images.double())[0].square().mean().backward()
        read.append(instruments.read(module))
    for block, values in read[0].items():
        del values["seconds" if "seconds" in values else "scalar"]
        for name, value in values.items():
            assert read[1][block][name] == pytest.approx(value, rel=1e-4, abs=1e-9), (block, name)
    alone, heard = joined(graph, rule), joined(graph, rule)
    Instruments(graph, INSTRUMENTS, torch.device("cpu")).listen(heard, 0)
    for module in (alone, heard):
        torch.manual_seed(0)
        module(images)[0].square().mean().backward()
    for (name, one), two in zip(alone.named_parameters(), heard.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, two.grad), name
    assert all(torch.equal(one, two) for one, two in zip(alone.buffers(), heard.buffers(), strict=True))


def test_bfloat16_gives_about_the_same_and_no_fault() -> None:
    """See ``Conv``: kernels that reach past a small input are cropped."""
    layer = a.Layer(
        name="layer1",
        branches=tuple(a.Branch(name=f"branch{i}", operation=o, channels=128) for i, o in enumerate(("3x3", "7x7sep"))),
    )
    graph = lower(
        a.MacroArchitecture(
            stem=(), stages=(a.Stage(name="s", layers=(layer,)),), head=(a.GlobalPoolStep(), a.DenseStep())
        ),
        (128, 2, 2),
        4,
    )
    images = torch.randn(16, 128, 2, 2, generator=torch.Generator().manual_seed(0))
    for rule in RULES:
        gradients = []
        for enabled in (False, True):
            module = joined(graph, rule)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                out = module(images)[0]
            out.float().square().sum().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
        assert (gradients[1] - gradients[0]).norm() < 0.05 * gradients[0].norm(), rule

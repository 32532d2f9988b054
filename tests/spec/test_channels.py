"""What a plan says of channels must be the same on both sides of a weight: who makes a channel and who reads it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amla.errors import SpecError
from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec import architecture as a
from amla.spec.experiment import Problem
from amla.spec.graph import Graph, weights
from amla.spec.lower import lower
from amla.spec.surgery import TensorPlan, surgery_plan
from amla.testing.strategies import architectures, graphs

PROBLEM = Problem(input_shape=(1, 8, 8), num_classes=5, train_size=100)
#: Nodes that hand on the channels of their one input as they are.
PASSING = ("norm", "activation", "pool", "dropout", "cutout", "lrn", "identity")


def maker(graph: Graph, name: str) -> str | None:
    """The convolution whose channels arrive at a node, in its own order; None where something mixes them."""
    nodes = graph.by_name()
    while nodes[name].op in PASSING:
        name = nodes[name].inputs[0]
    return name if nodes[name].op == "conv" else None


def whole(indices: tuple[int, ...] | None, size: int) -> tuple[int, ...]:
    return tuple(range(size)) if indices is None else indices


def check_readers(parent: Graph, child: Graph) -> None:
    """Where a kept weight reads a kept convolution in both networks, it reads from the parent just the channels that the
    convolution was given from the parent."""
    plan = {step.name: step for step in surgery_plan(parent, child).tensors}
    before, after = parent.by_name(), child.by_name()
    for node in child.nodes:
        step = plan.get(f"{node.name}.weight")
        if step is None or step.how != "copy" or node.op not in ("conv", "dense", "norm"):
            continue
        source = maker(child, node.inputs[0])
        if source is None or source not in before or maker(parent, before[node.name].inputs[0]) != source:
            continue
        made = plan[f"{source}.weight"]
        if made.how != "copy":
            continue
        size = after[source].shape[0]
        depthwise = node.op == "conv" and node.groups > 1
        read = step.outputs if depthwise or node.op == "norm" else step.inputs
        assert whole(read, size) == whole(made.outputs, size), node.name


@given(st.integers(0, 10_000), st.booleans())
def test_readers_and_makers_agree_after_any_edits(seed: int, skips: bool) -> None:
    space = EnvelopeSpace(EnvelopeSettings(width=12, layers=(2, 1), skips=skips), PROBLEM)
    rng = PROBLEM.model_copy(update={"seed": seed}).rng(0)
    network = space.sample(rng)
    for _ in range(3):
        edited = space.mutate(network, rng)
        check_readers(lower(network, (1, 8, 8), 5), lower(edited, (1, 8, 8), 5))
        network = edited


@given(graphs(num_classes=5), graphs(num_classes=5))
def test_readers_and_makers_agree_between_any_two_networks(parent: Graph, child: Graph) -> None:
    check_readers(parent, child)


@given(graphs(num_classes=5), graphs(num_classes=5))
def test_what_is_copied_is_there_and_fits(parent: Graph, child: Graph) -> None:
    """Kernels of another size cannot be copied, nor tensors that the parent does not have."""
    had = {weight.name: weight.shape for weight in weights(parent)}
    wanted = {weight.name: weight.shape for weight in weights(child)}
    for step in surgery_plan(parent, child).tensors:
        if step.how == "copy":
            assert had[step.name][2:] == wanted[step.name][2:]


# ------------------------------------------------------------------------------------------------------------ single cases
def chain(*layers: tuple[tuple[str, str, int], ...]) -> Graph:
    """Layers of (name, operation, channels) branches, without skips."""
    made = tuple(
        a.Layer(
            name=f"layer{number}",
            branches=tuple(a.Branch(name=name, operation=op, channels=channels) for name, op, channels in branches),
        )
        for number, branches in enumerate(layers, 1)
    )
    stages = (a.Stage(name="stage1", layers=made),)
    return lower(a.MacroArchitecture(stem=(a.ConvStep(channels=4),), stages=stages), (3, 8, 8), 2)


def plan_of(parent: Graph, child: Graph) -> dict[str, TensorPlan]:
    return {step.name: step for step in surgery_plan(parent, child).tensors}


def test_a_separable_convolution_behind_a_pruned_branch_keeps_its_channels_together() -> None:
    """A depthwise convolution has the channels of its input, so its pointwise one must lose the same ones."""
    plan = plan_of(
        chain((("a", "3x3", 2), ("b", "3x3", 3)), (("s", "3x3sep", 4),)),
        chain((("b", "3x3", 3),), (("s", "3x3sep", 4),)),
    )
    assert plan["stage1/layer2/s/depthwise.weight"].outputs == (2, 3, 4)
    assert plan["stage1/layer2/s/pointwise.weight"].inputs == (2, 3, 4)


@pytest.mark.parametrize(("old", "new"), [("3x3", "5x5"), ("3x3sep", "5x5sep")])
def test_a_kernel_of_another_size_begins_afresh(old: str, new: str) -> None:
    plan = plan_of(chain((("a", old, 3),)), chain((("a", new, 3),)))
    kernel = "conv" if old == "3x3" else "depthwise"
    assert plan[f"stage1/layer1/a/{kernel}.weight"].how == "default"
    assert plan["stage1/layer1/a/norm.running_mean"].how == "copy"


def test_a_tensor_that_the_parent_lacks_begins_afresh() -> None:
    def graph(bias: bool, scale: bool) -> Graph:
        stem = (a.ConvStep(channels=4, bias=bias),)
        stages = (a.Stage(name="stage1"),)
        network = a.MacroArchitecture(stem=stem, stages=stages, style=a.Style(norm_scale=scale))
        return lower(network, (3, 8, 8), 2)

    plan = plan_of(graph(False, False), graph(True, True))
    assert plan["stem/conv1/conv.bias"].how == "default"
    assert plan["stem/conv1/norm.weight"].how == "default"
    assert plan["stem/conv1/conv.weight"].how == "copy"


# -------------------------------------------------------------------------------------------------- names and lowering again
def macro(**changes: Any) -> dict[str, Any]:
    layer = {"name": "layer1", "branches": [{"name": "b", "operation": "1x1", "channels": 2}], "skips": []}
    stage = {"name": "stage1", "layers": [layer]}
    return {"kind": "macro", "stem": [{"op": "conv", "channels": 2}], "stages": [stage]} | changes


@pytest.mark.parametrize("name", a.RESERVED_IN_LAYER)
def test_a_branch_cannot_take_the_name_of_a_part_of_its_layer(name: str) -> None:
    data = macro()
    data["stages"][0]["layers"][0]["branches"][0]["name"] = name
    with pytest.raises(SpecError, match=f"branch '{name}'"):
        a.parse_architecture(data)


@pytest.mark.parametrize("name", a.RESERVED_PARTS)
def test_neither_stage_nor_cell_can_take_the_name_of_a_part_of_the_network(name: str) -> None:
    data = macro()
    data["stages"][0]["name"] = name
    with pytest.raises(SpecError, match=f"stage '{name}'"):
        a.parse_architecture(data)
    cell = {"inputs": {"p": 0}, "nodes": [{"name": "n", "operation": "1x1", "inputs": ["p"]}]}
    micro = {"kind": "micro", "stem": [{"op": "conv", "channels": 2}], "cells": {"c": cell}}
    with pytest.raises(SpecError, match=f"cell '{name}'"):
        a.parse_architecture(micro | {"network": [{"name": name, "cell": "c", "width": 2}]})


def test_an_output_has_one_auxiliary_classifier() -> None:
    with pytest.raises(SpecError, match="'stem' is there twice"):
        a.parse_architecture(macro(auxiliaries=[{"source": "stem"}, {"source": "stem"}]))


def test_dilations_are_bounded() -> None:
    for name in ("3x3dil0", "3x3dil99", "³x³"):
        with pytest.raises(SpecError, match="no operation is called"):
            a.Branch.parse({"name": "b", "operation": name, "channels": 1})


@pytest.mark.parametrize("shape", [(3, 1, 8), (3, 8, 1), (3, 5, 2)])
def test_joins_of_images_that_are_not_square(shape: tuple[int, int, int]) -> None:
    """One side may have nothing left to halve while the other has."""
    nodes = (
        a.CellNode(name="n1", operation="3x3", inputs=("p",), stride=2),
        a.CellNode(name="n2", operation="add", inputs=("p", "n1")),
    )
    network = a.MicroArchitecture(
        stem=(a.ConvStep(channels=4),),
        cells={"c": a.Cell(inputs={"p": 0}, nodes=nodes)},
        network=(a.Placement(name="cell1", cell="c", width=4),),
    )
    graph = lower(network, shape, 2)
    assert graph.node("cell1/n2").shape == (4, *(-(-side // 2) for side in shape[1:]))


def test_offsets_of_a_cell_count_back_and_stop_at_the_stem() -> None:
    nodes = (a.CellNode(name="n", operation="concat", inputs=("last", "before", "far")),)
    cell = a.Cell(inputs={"last": 0, "before": -1, "far": -9}, nodes=nodes)
    network = a.MicroArchitecture(
        stem=(a.ConvStep(channels=4),),
        cells={"c": cell},
        network=tuple(a.Placement(name=f"cell{n}", cell="c", width=12) for n in (1, 2, 3)),
    )
    graph = lower(network, (3, 8, 8), 2)
    stem = "stem/conv1/act"
    assert graph.node("cell1/n").inputs == (stem, stem, stem)
    assert graph.node("cell2/n").inputs == ("cell1/n", stem, stem)
    assert graph.node("cell3/n").inputs == ("cell2/fit/conv", "cell1/n", stem)


@given(architectures())
def test_inference_twice_is_inference_and_keeps_the_logits(network: a.MacroArchitecture | a.MicroArchitecture) -> None:
    bare = lower(network, (3, 8, 8), 5).inference()
    assert bare.inference() == bare
    assert (bare.input_shape, bare.num_classes, bare.auxiliaries) == ((3, 8, 8), 5, ())
    reached = {name for node in bare.nodes for name in node.inputs} | {bare.output}
    assert {node.name for node in bare.nodes} <= reached, "a node that nobody reads"

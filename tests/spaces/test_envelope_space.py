"""The space of EnvelopeNets: what is drawn from it, moved in it and found in it, over many settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amla.errors import SpecError
from amla.spaces.edits import edited_operations, inner_width, moved_operations, shared, without_layer
from amla.spaces.envelope import (
    ENVELOPE,
    EnvelopeSettings,
    EnvelopeSpace,
    fitting_width,
    suited_layers,
)
from amla.spaces.stems import suited_stem
from amla.spec.architecture import Auxiliary, Branch, ConvStep, MacroArchitecture, Placement, parse_architecture
from amla.spec.costs import costs
from amla.spec.experiment import Limits, Problem
from amla.spec.lower import lower
from amla.testing.tiny import network as tiny_network

PROBLEM = Problem(input_shape=(3, 12, 12), num_classes=4, train_size=100)
OPERATIONS = ("1x1", "3x3", "3x3sep", "3x3maxpool")


def space_of(**settings: Any) -> EnvelopeSpace:
    return EnvelopeSpace(EnvelopeSettings.parse(settings), PROBLEM)


@st.composite
def spaces(draw: st.DrawFn, *, blocks: bool = False) -> EnvelopeSpace:
    stages = draw(st.integers(1, 2))
    per_stage = lambda low, high: st.lists(st.integers(low, high), min_size=stages, max_size=stages)  # noqa: E731
    layers = draw(per_stage(1, 2))
    return space_of(
        width=draw(st.integers(6, 9)),
        layers=layers,
        max_layers=[least + more for least, more in zip(layers, draw(per_stage(0, 1)), strict=True)],
        operations=draw(st.lists(st.sampled_from(OPERATIONS), min_size=2, max_size=3, unique=True)),
        skips=draw(st.booleans()),
        parameter_limits=draw(st.lists(st.booleans(), min_size=stages, max_size=stages)),
        blocks=[least + more for least, more in zip(layers, draw(per_stage(0, 3)), strict=True)] if blocks else None,
    )


all_spaces = st.one_of(spaces(), spaces(blocks=True))
seeds = st.integers(0, 2**32 - 1)


def draw_from(space: EnvelopeSpace, seed: int) -> MacroArchitecture:
    return space.sample(np.random.default_rng(seed))


# ------------------------------------------------------------------------------------------------------- what is drawn
@given(all_spaces, seeds)
def test_a_sample_is_valid_lowers_and_is_contained(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    assert parse_architecture(network.to_json()) == network
    graph = lower(network, PROBLEM.input_shape, PROBLEM.num_classes)
    assert graph.num_classes == PROBLEM.num_classes
    assert space.contains(network)


@given(all_spaces, seeds)
def test_the_same_generator_gives_the_same_networks(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    assert draw_from(space, seed) == network
    first, second = (space.mutate(network, np.random.default_rng(seed)) for _ in range(2))
    assert first == second


@given(all_spaces, seeds)
def test_no_channel_is_lost_in_sharing_the_widths_out(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    graph = lower(network, PROBLEM.input_shape, PROBLEM.num_classes)
    for index, stage in enumerate(network.stages):
        width = space.width * 2**index
        inner = inner_width(width, len(stage.layers)) if space.limited[index] else width
        assert [layer.width for layer in stage.layers[:-1]] == [
            max(inner, len(layer.branches)) for layer in stage.layers[:-1]
        ]
        assert stage.layers[-1].width == width
        for layer in stage.layers:
            if len(layer.branches) > 1:  # one branch is not concatenated
                assert graph.node(f"{stage.name}/{layer.name}/out").shape[0] == layer.width
            channels = [branch.channels for branch in layer.branches]
            assert max(channels) - min(channels) <= 1
            assert channels == sorted(channels, reverse=True)


@given(spaces(blocks=True), seeds)
def test_blocks_are_the_branches_of_a_stage(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    assert [sum(len(x.branches) for x in stage.layers) for stage in network.stages] == list(space.blocks or ())
    assert [len(stage.layers) for stage in network.stages] == list(space.layers)


def test_depths_and_skips_are_drawn_over_their_whole_range() -> None:
    space = space_of(width=6, layers=[1], max_layers=[3])
    drawn = [draw_from(space, seed) for seed in range(60)]
    assert {len(network.stages[0].layers) for network in drawn} == {1, 2, 3}
    assert {n.stages[0].layers[2].skips for n in drawn if len(n.stages[0].layers) == 3} == {(), ("stage1/layer1",)}


# -------------------------------------------------------------------------------------------------------- moves in it
def edits_between(one: MacroArchitecture, other: MacroArchitecture) -> int:
    """How many branches, layers or skips differ, those aside that a dropped or added layer takes with it."""
    layers = [
        {f"{stage.name}/{layer.name}": layer for stage in network.stages for layer in stage.layers}
        for network in (one, other)
    ]
    both = layers[0].keys() & layers[1].keys()
    if layers[0].keys() != layers[1].keys():
        changed = [place for place in both if operations(layers[0][place]) != operations(layers[1][place])]
        return len(layers[0].keys() ^ layers[1].keys()) + len(changed)
    edits = 0
    for place in both:
        before, after = layers[0][place], layers[1][place]
        gone, new = multiset_difference(operations(before), operations(after))
        edits += max(gone, new)
        edits += len(set(before.skips or ()) ^ set(after.skips or ()))
    return edits


def operations(layer: Any) -> list[str]:
    return sorted(branch.operation for branch in layer.branches)


def multiset_difference(before: list[str], after: list[str]) -> tuple[int, int]:
    kept = sum(min(before.count(kind), after.count(kind)) for kind in set(before))
    return len(before) - kept, len(after) - kept


@given(spaces(), seeds)
def test_neighbors_are_one_edit_away_distinct_and_contained(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    found = list(space.neighbors(network))
    assert found == list(space.neighbors(network)), "the order is fixed"
    assert len({other.to_json() for other in found}) == len(found)
    for other in found:
        assert parse_architecture(other.to_json()) == other
        assert space.contains(other)
        assert edits_between(network, other) == 1


@given(spaces(blocks=True), seeds)
def test_neighbors_with_blocks_keep_their_number(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    for other in space.neighbors(network):
        assert parse_architecture(other.to_json()) == other
        assert other != network
        assert space.contains(other)
        assert edits_between(network, other) in (1, 2), "a branch that moves leaves one layer and joins another"


@given(all_spaces, seeds)
def test_a_mutant_is_a_neighbor(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    mutant = space.mutate(network, np.random.default_rng(seed))
    assert mutant != network
    assert mutant in list(space.neighbors(network))
    lower(mutant, PROBLEM.input_shape, PROBLEM.num_classes)


@given(spaces(), seeds, st.integers(1, 12))
def test_a_walk_stays_in_the_space(space: EnvelopeSpace, seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    network = space.sample(rng)
    for _ in range(steps):
        network = space.mutate(network, rng)
    assert space.contains(network)


@given(spaces(), seeds)
def test_neighbors_see_each_other_unless_a_layer_went(space: EnvelopeSpace, seed: int) -> None:
    network = draw_from(space, seed)
    depth = [len(stage.layers) for stage in network.stages]
    for other in space.neighbors(network):
        if [len(stage.layers) for stage in other.stages] == depth:
            assert network in list(space.neighbors(other))


def test_branches_keep_their_names_in_the_ordinary_space() -> None:
    space = space_of(width=6, layers=[1], max_layers=[1], operations=["1x1", "3x3", "5x5"], skips=False)
    [exchanged] = [
        other for other in space.neighbors(space.initial()) if operations(other.stages[0].layers[0]) == ["1x1", "5x5"]
    ]
    assert [branch.name for branch in exchanged.stages[0].layers[0].branches] == ["branch1", "branch3"]


def test_the_only_network_has_no_neighbor() -> None:
    space = space_of(width=6, layers=[1], max_layers=[1], operations=["3x3"])
    with pytest.raises(SpecError, match="one network only"):
        space.mutate(space.initial(), np.random.default_rng(0))


def test_only_macro_architectures_have_neighbors_here() -> None:
    micro = parse_architecture(
        {
            "kind": "micro",
            "stem": [{"op": "conv", "channels": 4}],
            "cells": {"a": {"inputs": {"x": 0}, "nodes": [{"name": "n", "operation": "3x3", "inputs": ["x"]}]}},
            "network": [Placement(name="p", cell="a", width=4).to_data()],
        }
    )
    assert not space_of().contains(micro)
    with pytest.raises(SpecError, match="macro"):
        list(space_of().neighbors(micro))


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ([("1x1",)], [(("1x1", "3x3"),), (("3x3",),)]),
        ([("1x1", "3x3")], [(("3x3",),), (("1x1",),)]),
    ],
)
def test_edits_of_operations_by_hand(choices: Any, expected: Any) -> None:
    assert list(edited_operations(choices, ("1x1", "3x3"))) == expected


def test_moves_of_operations_by_hand() -> None:
    assert list(moved_operations([("1x1", "1x1"), ("3x3",)], ("1x1", "3x3"))) == [
        (("3x3", "1x1"), ("3x3",)),
        (("1x1",), ("3x3", "1x1")),
        (("1x1", "3x3"), ("3x3",)),
        (("1x1",), ("3x3", "1x1")),
        (("1x1", "1x1"), ("1x1",)),
    ]


# ---------------------------------------------------------------------------------------------------------- membership
def changed(network: MacroArchitecture, **update: Any) -> MacroArchitecture:
    """The network with its first layer changed."""
    stage = network.stages[0]
    layers = (stage.layers[0].model_copy(update=update), *stage.layers[1:])
    stages = (stage.model_copy(update={"layers": layers}), *network.stages[1:])
    return network.model_copy(update={"stages": stages})


def test_what_the_space_does_not_contain() -> None:
    space = space_of(width=8, layers=[2, 2], operations=["1x1", "3x3"])
    network = space.initial()
    first = network.stages[0].layers[0]
    foreign = tuple(Branch(name=f"branch{n}", operation="5x5", channels=4) for n in (1, 2))
    assert space.contains(network)
    for other in (
        tiny_network(8),
        changed(network, branches=foreign),
        changed(network, branches=first.branches[:1]),  # its channels not shared out anew
        changed(network, skips=None),
        changed(network, skips=("stem",)),
        changed(network, name="layer3"),  # numbers ascend
        changed(network, name="block1"),
        network.model_copy(update={"stages": network.stages[:1]}),
        network.model_copy(update={"stages": tuple(reversed(network.stages))}),
        network.model_copy(update={"stem": (ConvStep(channels=9),)}),
        network.model_copy(update={"auxiliaries": (Auxiliary(source="stage1/layer1"),)}),
        without_layer(network, "stage2", "layer2"),
    ):
        assert not space.contains(other)
    assert not space_of(width=8, layers=[2, 2], operations=["1x1", "3x3"], skips=False).contains(network)


def test_a_stage_may_have_one_layer_more_than_max_layers_and_no_more() -> None:
    space = space_of(width=6, layers=[1], max_layers=[2])
    network = space.initial()
    contained = []
    for _ in range(4):
        contained.append(space.contains(network))
        network = space.set_widths(space.grow(network, "stage1"))
    assert contained == [True, True, True, False]


def test_the_envelope_is_in_its_space_though_it_is_deeper_than_max_layers() -> None:
    space = space_of(width=6, layers=[4], max_layers=[2])
    assert space.contains(space.initial())
    assert all(len(draw_from(space, seed).stages[0].layers) == 4 for seed in range(5))


# -------------------------------------------------------------------------------------------------------------- edits
def test_the_envelope_is_dense() -> None:
    network = space_of(width=6, layers=[2, 2]).initial()
    skips = {f"{s.name}/{x.name}": x.skips for s in network.stages for x in s.layers}
    assert skips == {
        "stage1/layer1": (),
        "stage1/layer2": (),  # it follows on layer 1, its very input
        "stage2/layer1": ("stage1/layer1", "stage1/layer2"),
        "stage2/layer2": ("stage1/layer1", "stage1/layer2", "stage1/widener"),
    }
    assert all(
        tuple(branch.operation for branch in layer.branches) == ENVELOPE for s in network.stages for layer in s.layers
    )


def test_with_a_layer_go_the_skips_that_read_it() -> None:
    network = space_of(width=6, layers=[3, 1]).initial()
    fewer = without_layer(network, "stage1", "layer2")
    assert [layer.name for layer in fewer.stages[0].layers] == ["layer1", "layer3"]
    assert fewer.stages[0].layers[1].skips == (), "layer1 is its input now"
    assert fewer.stages[1].layers[0].skips == ("stage1/layer1", "stage1/layer3")


@given(st.integers(1, 300), st.integers(1, 12))
def test_shared_loses_nothing(width: int, count: int) -> None:
    branches = [Branch(name=f"branch{n}", operation="3x3", channels=1) for n in range(count)]
    if width < count:
        with pytest.raises(SpecError, match="cannot be shared"):
            shared(branches, width)
        return
    channels = [branch.channels for branch in shared(branches, width)]
    assert sum(channels) == width
    assert max(channels) - min(channels) <= 1


@pytest.mark.parametrize(
    ("width", "layers", "expected"),
    [
        (64, 1, 64),
        (64, 2, 32),
        (65, 2, 32),
        (64, 3, 26),  # 64 * (sqrt(2) - 1) = 26.5
        (64, 5, 21),  # 64 * (2 - 1) / 3 = 21.3
        (128, 10, 32),  # 128 * (3 - 1) / 8
        (1, 2, 1),  # never nothing
    ],
)
def test_inner_width_by_hand(width: int, layers: int, expected: int) -> None:
    assert inner_width(width, layers) == expected


# ----------------------------------------------------------------------------------------- what suits data and limits
@pytest.mark.parametrize(("side", "stages", "strides"), [
    (8, 1, [1]), (12, 2, [1]), (28, 3, [1]), (32, 3, [1]), (64, 3, [1]), (65, 3, [2]), (224, 3, [2, 2]), (1, 1, [1]),
])  # fmt: skip
def test_depth_and_stem_suit_the_image(side: int, stages: int, strides: list[int]) -> None:
    problem = PROBLEM.model_copy(update={"input_shape": (3, side, side)})
    assert suited_layers(problem) == (2,) * stages
    assert [step.stride for step in suited_stem(problem, 8) if isinstance(step, ConvStep)] == strides
    space = EnvelopeSpace(EnvelopeSettings(), problem)
    assert (space.width, space.stem) == (16, suited_stem(problem, 16))
    lower(space.initial(), problem.input_shape, 4)


@pytest.mark.parametrize("limit", ["max_params", "max_flops"])
def test_the_width_keeps_the_limits(limit: str) -> None:
    def cost(width: int, problem: Problem) -> int:
        found = costs(lower(EnvelopeSpace(EnvelopeSettings(width=width), problem).initial(), problem.input_shape, 4))
        return found.parameters if limit == "max_params" else found.flops

    for width in (16, 11, 6):
        problem = PROBLEM.model_copy(update={"limits": Limits.parse({limit: cost(width, PROBLEM)})})
        assert fitting_width(EnvelopeSettings(), problem) == width
        assert EnvelopeSpace(EnvelopeSettings(), problem).width == width
    tight = PROBLEM.model_copy(update={"limits": Limits.parse({limit: 10})})
    assert fitting_width(EnvelopeSettings(), tight) == 6, "the narrowest; the searcher says that it is too wide"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": [2, 2], "max_layers": [3]}, "max_layers: 1 values for 2 stages"),
        ({"layers": [2], "parameter_limits": [True, False]}, "parameter_limits: 2 values for 1 stages"),
        ({"layers": [2, 2], "blocks": [4]}, "blocks: 1 values for 2 stages"),
        ({"layers": [3], "blocks": [2]}, "at least one branch a layer"),
        ({"layers": [1], "blocks": [17]}, "17 branches may be too many for the 16 channels"),
        ({"width": 5}, "take at least 6"),
        ({"operations": ["3x4"]}, "no operation is called"),
        ({"layers": []}, "layers"),
        ({"depth": 3}, "depth: unknown key"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        space_of(**settings)


def test_a_limited_stage_has_a_channel_for_every_branch() -> None:
    space = space_of(width=6, layers=[4], parameter_limits=[True])  # 6 * (sqrt(3) - 1) / 2 = 2.2
    assert [layer.width for layer in space.initial().stages[0].layers] == [6, 6, 6, 6]


def test_a_stem_and_its_halvings_are_not_both_given():
    problem = Problem(input_shape=(3, 32, 32), num_classes=10, train_size=100)
    space = EnvelopeSpace(EnvelopeSettings(width=8, halvings=1), problem)
    assert [step.stride for step in space.stem] == [2]
    with pytest.raises(SpecError, match="halvings"):
        EnvelopeSpace(EnvelopeSettings(width=8, halvings=1, stem=space.stem), problem)

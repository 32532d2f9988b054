"""DARTS' space: the published network, how cells are stacked, the published way to derive one from a supernet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amla.errors import SpecError
from amla.spaces.darts_cell import (
    OPERATIONS,
    DartsCellSettings,
    DartsCellSpace,
    Edge,
    Genotype,
)
from amla.spec.architecture import Auxiliary, parse_architecture
from amla.spec.costs import parameters
from amla.spec.experiment import Problem
from amla.spec.lower import lower

PROBLEM = Problem(input_shape=(3, 32, 32), num_classes=10, train_size=100)
#: The cells that the paper's second order search found (figures 4 and 5).
DARTS_V2 = Genotype(
    normal=(
        (Edge(0, "3x3sep"), Edge(1, "3x3sep")),
        (Edge(0, "3x3sep"), Edge(1, "3x3sep")),
        (Edge(0, "identity"), Edge(1, "3x3sep")),
        (Edge(0, "identity"), Edge(2, "3x3dil")),
    ),
    reduction=(
        (Edge(0, "3x3maxpool"), Edge(1, "3x3maxpool")),
        (Edge(1, "3x3maxpool"), Edge(2, "identity")),
        (Edge(0, "3x3maxpool"), Edge(2, "identity")),
        (Edge(1, "3x3maxpool"), Edge(2, "identity")),
    ),
)


def space_of(**settings: Any) -> DartsCellSpace:
    return DartsCellSpace(DartsCellSettings.parse({"width": 4, "cells": 3} | settings), PROBLEM)


def test_parameters_are_those_of_the_published_network() -> None:
    network = DartsCellSpace(DartsCellSettings(), PROBLEM).build(DARTS_V2)
    assert parameters(lower(network, (3, 32, 32), 10)) == 3_349_342


def test_its_size_is_the_published_one() -> None:
    """(3 * 6 * 10 pairs, 7 operations on each of 8 edges) for each cell."""
    assert space_of().size() == (180 * 7**8) ** 2


def test_cells_are_stacked_as_published() -> None:
    network = DartsCellSpace(DartsCellSettings(), PROBLEM).build(DARTS_V2)
    kinds = [placement.cell for placement in network.network]
    assert [index for index, kind in enumerate(kinds) if kind.startswith("reduction")] == [6, 13]
    assert [index for index, kind in enumerate(kinds) if kind == "normal_after_reduction"] == [7, 14]
    graph = lower(network, (3, 32, 32), 10).by_name()
    assert [graph[f"cell{number}/out"].shape for number in (6, 7, 14, 20)] == [
        (144, 32, 32),
        (288, 16, 16),
        (576, 8, 8),
        (576, 8, 8),
    ]
    assert graph["cell1/node0/conv"].inputs == ("cell1/node0/act",)
    assert graph["cell1/node0/act"].inputs == graph["cell1/node1/act"].inputs == ("stem/conv1/norm",)
    assert graph["cell3/node0/act"].inputs == ("cell1/out",)
    assert graph["cell8/node0/conv"].stride == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("cells", range(3, 10))
def test_any_number_of_cells_makes_a_network(cells: int) -> None:
    space = space_of(cells=cells)
    network = space.sample(np.random.default_rng(cells))
    assert parse_architecture(network.to_json()) == network
    assert lower(network, (3, 9, 7), 10).by_name()[f"cell{cells}/out"].shape == (64, 3, 2)


def test_other_numbers_of_nodes_and_operations() -> None:
    space = space_of(nodes=6, operations=["3x3", "1x1", "identity"])
    network = space.sample(np.random.default_rng(0))
    assert {node.operation for node in network.cells["normal"].nodes} <= {"3x3", "1x1", "identity", "add", "concat"}
    assert len(list(space.neighbors(network))) == 2 * sum(2 * 2 + 2 * (node - 2) for node in range(2, 8))
    assert lower(network, (3, 8, 8), 10).by_name()["cell3/out"].shape == (6 * 16, 2, 2)


def test_only_its_own_networks_are_in_it() -> None:
    space = space_of()
    network = space.sample(np.random.default_rng(0))
    others = [
        network.model_copy(update={"auxiliaries": (Auxiliary(source="cell1"),)}),
        network.model_copy(update={"cells": {**network.cells, "normal": network.cells["reduction"]}}),
        space_of(cells=4).sample(np.random.default_rng(0)),
        space_of(nodes=3).sample(np.random.default_rng(0)),
        space.supernet().architecture,
    ]
    for other in others:
        assert not space.contains(other)
        with pytest.raises(SpecError, match="not in the space"):
            space.encode(other)
    assert not space_of(operations=["3x3"]).contains(network)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"operations": ["3x3", "zero"]}, "supernet only"),
        ({"operations": ["3x3", "3x3"]}, "twice"),
        ({"operations": ["3y3"]}, "3y3"),
        ({"cells": 2}, "cells"),
        ({"halvings": 1, "stem": [{"op": "conv", "channels": 4}]}, "halvings"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        space_of(**settings)


def test_a_space_of_one_network_has_no_mutation() -> None:
    space = space_of(nodes=1, operations=["3x3"])
    assert space.size() == 1
    with pytest.raises(SpecError, match="one network only"):
        space.mutate(space.sample(np.random.default_rng(0)), np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------------------ as one network
def test_the_supernet_is_the_published_search_network() -> None:
    found = DartsCellSpace(DartsCellSettings(), PROBLEM).supernet()
    assert len(found.architecture.network) == 8
    assert found.architecture.network[0].width == 16
    assert len(found.mixtures) == 28
    assert all(tuple(options) == (*OPERATIONS, "zero") for options in found.mixtures.values())
    assert found.mixtures["reduction/edge_0_2"]["3x3maxpool"] == (
        "cell3/edge_0_2_3x3maxpool",
        "cell6/edge_0_2_3x3maxpool",
    )
    assert space_of().supernet().architecture.network[0].width == 4


def test_zero_wins_no_edge_and_two_edges_a_node_stay() -> None:
    space = space_of(nodes=2, operations=["3x3", "identity"])
    strengths = {name: {"3x3": 0.2, "identity": 0.1, "zero": 0.7} for name in space.supernet().mixtures}
    strengths["normal/edge_0_3"] = {"3x3": 0.05, "identity": 0.06, "zero": 0.89}
    strengths["reduction/edge_2_3"] = {"3x3": 0.3, "identity": 0.6, "zero": 0.1}
    derived = space.genotype(space.derive(strengths))
    assert derived.normal == ((Edge(0, "3x3"), Edge(1, "3x3")), (Edge(1, "3x3"), Edge(2, "3x3")))
    assert derived.reduction == ((Edge(0, "3x3"), Edge(1, "3x3")), (Edge(0, "3x3"), Edge(2, "identity")))


def test_every_network_is_in_the_supernet() -> None:
    space = space_of()
    for seed in range(20):
        network = space.sample(np.random.default_rng(seed))
        kept = space.kept(network)
        assert sum(options != ("zero",) for options in kept.values()) == 16
        strengths = {
            name: {option: 0.5 + (option in kept[name]) for option in options}
            for name, options in space.supernet().mixtures.items()
        }
        assert space.derive(strengths) == network

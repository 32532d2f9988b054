"""Branches of a Graph that no architecture describes, and the Graph without some of them."""

import numpy as np
import pytest

from amla.errors import SpecError
from amla.spec.branches import branches, prunable, pruned
from amla.spec.costs import costs
from amla.spec.graph import Graph, weights
from amla.spec.lower import lower
from amla.spec.surgery import surgery_plan
from amla.testing.trainers import every_operation, network, stacked_cells
from amla.trainers.surgery import operate


def anonymous(graph: Graph) -> Graph:
    """As a file tells it: nothing but nodes, and the blocks that are found in them."""
    bare = graph.inference().model_copy(update={"blocks": ()})
    return bare.model_copy(update={"blocks": tuple(branches(bare))})


def test_the_branches_of_a_layer_are_found() -> None:
    graph = lower(network(3), (1, 8, 8), 10)
    said = {(b.before_norm, b.output) for b in graph.blocks if b.kind != "skip"}
    found = {(b.before_norm, b.output) for b in branches(graph.inference())}
    assert {before for before, _ in found} == {before for before, _ in said}
    assert [b.kind for b in branches(graph.inference())][:2] == ["1x1", "3x3"]


@pytest.mark.parametrize("architecture", [network(3), every_operation()])
def test_a_network_without_a_branch_is_a_smaller_network(architecture: object) -> None:
    graph = anonymous(lower(architecture, (3, 8, 8), 10))  # type: ignore[arg-type]
    assert prunable(graph)
    for name in prunable(graph):
        smaller = pruned(graph, [name])
        assert name not in {block.name for block in smaller.blocks}
        assert costs(smaller).parameters <= costs(graph).parameters
        assert smaller.node(smaller.output).shape == (10,)
        # its weights are the parent's, by surgery
        rng = np.random.default_rng(0)
        old = {w.name: rng.standard_normal(w.shape) for w in weights(graph)}
        fresh = {w.name: np.zeros(w.shape) for w in weights(smaller)}
        plan = surgery_plan(graph, smaller)
        assert {tensor.how for tensor in plan.tensors} == {"copy"}
        child = operate(plan, old, fresh)
        assert {name: value.shape for name, value in child.items()} == {w.name: w.shape for w in weights(smaller)}


def test_an_addition_has_no_branch_to_take_away() -> None:
    assert anonymous(lower(stacked_cells(), (3, 8, 8), 10)).blocks == ()


def test_what_cannot_go_is_said() -> None:
    graph = anonymous(lower(network(1), (1, 8, 8), 10))
    names = [block.name for block in graph.blocks]
    with pytest.raises(SpecError, match="no branch left"):
        pruned(graph, names)
    with pytest.raises(SpecError, match="no block is called 'none'"):
        pruned(graph, ["none"])
    assert prunable(pruned(graph, names[1:])) == []

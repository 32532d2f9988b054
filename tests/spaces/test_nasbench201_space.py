"""NAS-Bench-201's space: the published networks, their text, the published mutation, and what an evaluation costs."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amla.errors import SpecError
from amla.spaces.darts_cell import DartsCellSettings, DartsCellSpace
from amla.spaces.nasbench201 import (
    EDGES,
    OPERATIONS,
    NASBench201Settings,
    NASBench201Space,
    arch_str,
    from_arch_str,
    operations_of,
)
from amla.spec.architecture import ConvStep, DenseStep, GlobalPoolStep, Placement, parse_architecture
from amla.spec.costs import parameters
from amla.spec.experiment import Problem
from amla.spec.lower import lower

TABLE = Path(__file__).parents[3] / "shared" / "data" / "nasbench201.parquet"
PROBLEM = Problem(input_shape=(3, 32, 32), num_classes=10, train_size=100)
cells = st.tuples(*[st.sampled_from(OPERATIONS)] * len(EDGES))


def space_of(problem: Problem = PROBLEM, **settings: Any) -> NASBench201Space:
    return NASBench201Space(NASBench201Settings.parse(settings), problem)


def published_parameters(operations: tuple[str, ...]) -> int:
    """Counted by hand: what every network has, and a convolution with its norm in each of 5 cells at each of 3 widths."""
    total = 73_306
    for width in (16, 32, 64):
        taps = {"1x1": 1, "3x3": 9}
        total += 5 * sum(taps[name] * width**2 + 2 * width for name in operations if name in taps)
    return total


# ------------------------------------------------------------------------------------------------- the published networks
@given(cells)
def test_parameters_are_those_of_the_published_network(operations: tuple[str, ...]) -> None:
    assert parameters(lower(space_of().build(operations), (3, 32, 32), 10)) == published_parameters(operations)


def test_parameters_are_those_of_the_table() -> None:
    """All rows but 150, which carry one convolution more or less than the cell that they name has, in this table as it was
    published: each differs by just the parameters of one 1x1 (28,000) or one 3x3 convolution (243,040) on an edge."""
    if not TABLE.exists():
        pytest.skip(f"the table is not at hand: {TABLE.name}")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(TABLE, columns=["arch_str", "params_m"]).to_pydict()
    space, texts = space_of(), table["arch_str"]
    assert len(set(texts)) == space.size() == 15_625
    assert all(arch_str(space.build(operations_of(text))) == text for text in texts)
    differences = Counter(
        published_parameters(operations_of(text)) - round(1e6 * millions)
        for text, millions in zip(texts, table["params_m"], strict=True)
    )
    assert differences == {0: 15_475, 243_040: 62, 28_000: 60, -243_040: 15, -28_000: 13}


def test_a_cell_is_built_as_published() -> None:
    graph = lower(
        from_arch_str("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"),
        (3, 32, 32),
        10,
    )
    inputs = {node.name: node.inputs for node in graph.nodes}
    assert [node.shape for node in graph.nodes if node.name.endswith("/node3")] == [
        shape for shape in ((16, 32, 32), (32, 16, 16), (64, 8, 8)) for _ in range(5)
    ]
    cell = "stage1_cell2"
    assert inputs[f"{cell}/edge_0_1/act"] == ("stage1_cell1/node3",)
    assert inputs[f"{cell}/edge_0_1/conv"] == (f"{cell}/edge_0_1/act",)
    assert inputs[f"{cell}/edge_0_1/norm"] == (f"{cell}/edge_0_1/conv",)
    assert inputs[f"{cell}/node2"] == (f"{cell}/edge_0_2/zero", f"{cell}/edge_1_2/identity")
    assert inputs[f"{cell}/node3"] == (f"{cell}/edge_0_3/pool", f"{cell}/edge_1_3/zero", f"{cell}/edge_2_3/norm")
    assert inputs["reduction1/out"] == ("reduction1/conv2/norm", "reduction1/shortcut/fit/conv")
    assert not graph.by_name()["reduction1/shortcut/fit/conv"].bias  # type: ignore[union-attr]
    assert [node.op for node in graph.nodes[-4:]] == ["norm", "activation", "global_pool", "dense"]


# --------------------------------------------------------------------------------------------------------------- its text
@given(cells)
def test_text_there_and_back(operations: tuple[str, ...]) -> None:
    text = arch_str(space_of().build(operations))
    assert operations_of(text) == operations
    assert arch_str(from_arch_str(text)) == text
    assert space_of().contains(from_arch_str(text))


def test_text_as_published() -> None:
    operations = ("3x3", "zero", "identity", "3x3avgpool", "1x1", "zero")
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    assert arch_str(space_of(width=4, cells=1).build(operations)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|conv~2|",
        "|none~1|+|none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_text_that_is_no_cell(text: str) -> None:
    with pytest.raises(SpecError, match=r"nor_conv_3x3~0"):
        from_arch_str(text)


def test_networks_without_such_a_cell_have_no_text() -> None:
    other = DartsCellSpace(DartsCellSettings(width=4, cells=3), PROBLEM).sample(np.random.default_rng(0))
    supernet = space_of(width=4, cells=1).supernet().architecture
    for network in (other, supernet):
        with pytest.raises(SpecError, match="no cell of NAS-Bench-201"):
            arch_str(network)


# ---------------------------------------------------------------------------------------------------------- moving in it
def test_the_mutation_is_the_published_one() -> None:
    """One of three nodes, one of its inputs, another operation: an edge into node 1 changes with probability 1/3, each of
    those into node 3 with 1/9."""
    space, rng, draws = space_of(), np.random.default_rng(0), 9000
    before = ("3x3", "zero", "identity", "1x1", "3x3avgpool", "3x3")
    changed: Counter[int] = Counter()
    options: Counter[str] = Counter()
    for _ in range(draws):
        after = list(space.encode(space.mutate(space.build(before), rng)).values())
        (place,) = [place for place in range(6) if after[place] != before[place]]
        changed[place] += 1
        options[after[place]] += place == 0
    for place, (_, target) in enumerate(EDGES):
        assert changed[place] / draws == pytest.approx(1 / (3 * target), abs=0.02)
    assert set(+options) == {"zero", "identity", "1x1", "3x3avgpool"}
    assert max(options.values()) - min((+options).values()) < 0.2 * changed[0]


def test_another_skeleton_is_another_space() -> None:
    network = space_of().sample(np.random.default_rng(0))
    for other in (space_of(width=8), space_of(cells=4), space_of(head=[{"op": "global_pool"}, {"op": "dense"}])):
        assert not other.contains(network)
        with pytest.raises(SpecError, match="not in the space"):
            other.encode(network)
    renamed = network.model_copy(
        update={"network": (*network.network[:-1], Placement(name="last", cell="cell", width=64))}
    )
    assert not space_of().contains(renamed)
    assert not space_of(operations=["zero"]).contains(space_of().build(("3x3",) * 6))


def test_stem_and_head_can_be_those_of_others() -> None:
    stem, head = [{"op": "conv", "channels": 24, "stride": 2}], [{"op": "global_pool"}, {"op": "dense"}]
    network = space_of(stem=stem, head=head, width=8, cells=1).sample(np.random.default_rng(0))
    assert network.stem == (ConvStep(channels=24, stride=2),)
    assert network.head == (GlobalPoolStep(), DenseStep())
    lower(network, (3, 32, 32), 10)


def test_large_images_are_halved_in_the_stem() -> None:
    problem = PROBLEM.model_copy(update={"input_shape": (3, 160, 128)})
    graph = lower(space_of(problem).sample(np.random.default_rng(0)), problem.input_shape, 10)
    assert graph.by_name()["stage1_cell1/node3"].shape == (16, 40, 32)
    assert sum(step.stride == 2 for step in space_of(halvings=1).skeleton.stem if step.op == "conv") == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"operations": ["3x3", "5x5"]}, "5x5"),
        ({"operations": ["3x3", "3x3"]}, "twice"),
        ({"operations": []}, "operations"),
        ({"halvings": 1, "stem": [{"op": "conv", "channels": 4}]}, "halvings"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        space_of(**settings)


def test_a_space_of_one_network_has_no_mutation() -> None:
    space = space_of(operations=["3x3"])
    network = space.sample(np.random.default_rng(0))
    assert space.size() == 1
    assert list(space.neighbors(network)) == []
    with pytest.raises(SpecError, match="one network only"):
        space.mutate(network, np.random.default_rng(0))


# ------------------------------------------------------------------------------------------------------------ as one network
@given(cells)
def test_every_cell_is_in_the_supernet(operations: tuple[str, ...]) -> None:
    space = space_of(width=4, cells=2)
    kept = space.kept(space.build(operations))
    strengths = {name: {option: 0.5 + (option in kept[name]) for option in OPERATIONS} for name in kept}
    assert space.derive(strengths) is space.build(operations)


def test_an_option_stands_in_every_cell_of_the_supernet() -> None:
    found = space_of(width=4, cells=2).supernet()
    assert found.mixtures["edge_0_3"]["3x3avgpool"] == tuple(
        f"stage{stage}_cell{cell}/edge_0_3_3x3avgpool" for stage in (1, 2, 3) for cell in (1, 2)
    )


# ------------------------------------------------------------------------------------------------------------------- fast
def test_an_evaluation_costs_next_to_nothing() -> None:
    """A benchmark of 40,000 evaluations on two cores within a minute has 3 ms for each; the space may take a third of that."""
    space, rng = space_of(), np.random.default_rng(0)
    network = space.sample(rng)
    began = time.process_time()
    for _ in range(1000):
        network = space.mutate(network, rng)
        space.decode(space.encode(network))
        arch_str(space.sample(rng))
    assert (time.process_time() - began) / 1000 < 1e-3


def test_networks_are_shared_between_spaces_and_read_ones_are_equal() -> None:
    one, two = space_of(), space_of()
    network = one.sample(np.random.default_rng(3))
    assert two.sample(np.random.default_rng(3)) is network
    assert one.decode(one.encode(parse_architecture(network.to_json()))) is network

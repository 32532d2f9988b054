"""Features of AMLA 0.x files one by one, on small files of our own; and files broken in every way."""

import copy
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amla.errors import SpecError
from amla.searchers.nac import NACSettings
from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec import amla0
from amla.spec.architecture import MacroArchitecture, MicroArchitecture, parse_architecture
from amla.spec.experiment import ExperimentSpec, Problem
from amla.spec.graph import Graph, weights
from amla.spec.lower import lower
from amla.spec.training import Training

HEAD = {
    "Layer0": {"Branch0": {"block": "reduce_mean", "size": [1, 2]}},
    "Layer2": {"Branch0": {"block": "dropout", "keep_prob": 0.9}},
    "Layer5": {"Branch0": {"block": "fc-final", "outputs": 10}},
}


def conv(outputs: int, **more: Any) -> dict[str, Any]:
    return {"Branch0": {"block": "conv2d", "kernel_size": [3, 3], "outputs": outputs, **more}}


def file(mode: str = "train", algorithm: str = "deterministic", **groups: Any) -> dict[str, Any]:
    parameters = {"mode": mode, "algorithm": algorithm, "steps": 9, "batch_size": 4, "dataset": "cifar10"}
    return {
        "parameters": parameters | groups.pop("parameters", {}),
        "child_training": {
            "optimizer": {"type": "sgd"},
            "lr": {"type": "exponential_decay", "initial": 0.1, "decay": 0.9, "epochs_per_decay": 2},
        },
        "init_cell": {"Layer0": conv(8)},
        "classification_cell": HEAD,
        **groups,
    }


def macro(*items: Any) -> dict[str, Any]:
    return file(arch={"type": "macro", "network": list(items)})


def micro(nodes: dict[str, Any], network: list[str], **cells: Any) -> dict[str, Any]:
    return file(arch={"type": "micro", "normal_cell": nodes, "network": network, **cells})


def layer(operation: str, outputs: int = 8, **more: Any) -> dict[str, Any]:
    return {"filters": {"Branch1": operation}, "outputs": outputs, **more}


def network_of(data: dict[str, Any]) -> MacroArchitecture | MicroArchitecture:
    return parse_architecture(amla0.convert(data)[0].settings["architecture"])


def graph_of(data: dict[str, Any]) -> Graph:
    return lower(network_of(data), (3, 32, 32), 10)


def warnings_of(data: dict[str, Any]) -> str:
    return "\n".join(amla0.convert(data)[1])


# -------------------------------------------------------------------------------------------------------------------- macro
def test_an_empty_list_of_inputs_keeps_the_bottleneck_and_no_list_has_none() -> None:
    graph = graph_of(macro(layer("3x3"), layer("3x3", inputs=[])))
    names = {node.name for node in graph.nodes}
    assert "stage1/layer2/bottleneck/conv" in names
    assert "stage1/layer1/bottleneck/conv" not in names


def test_wideners_count_as_items_and_double_the_stem_each_time() -> None:
    graph = graph_of(macro(layer("1x1", 6), {"widener": {}}, layer("1x1", 10, inputs=[1, 2]), {"widener": {}}))
    assert graph.node("stage1/widener/out").shape == (6 + 8, 16, 16)
    assert graph.node("stage2/layer1/join").shape == (14 + 6 + 14, 16, 16)
    assert graph.node("stage2/widener/out").shape == (10 + 16, 8, 8)


def test_widener2_doubles_the_next_widener_too_and_has_no_bottleneck() -> None:
    graph = graph_of(macro(layer("1x1"), {"widener2": {}, "inputs": [0]}, layer("1x1", 16), {"widener": {}}))
    assert graph.node("stage1/widener/pool").shape == (8 + 8, 16, 16)
    assert graph.node("stage2/widener/conv").shape == (16, 8, 8)
    assert not any("bottleneck" in node.name for node in graph.nodes)


def test_branches_are_dressed_as_the_original_dressed_them() -> None:
    graph = graph_of(macro(layer("3x3")))
    place = "stage1/layer1/branch1"
    assert [graph.node(f"{place}/{part}").op for part in ("conv", "norm", "act", "dropout")] == [
        "conv", "norm", "activation", "dropout",
    ]  # fmt: skip
    norm, dropout = graph.node(f"{place}/norm"), graph.node(f"{place}/dropout")
    assert norm.op == "norm"
    assert not norm.scale
    assert dropout.op == "dropout"
    assert dropout.rate == 0.2


def test_an_auxiliary_has_the_classes_of_the_data() -> None:
    data = macro(layer("3x3"), {"auxiliary": {"Branch1": "Dense"}, "outputs": 1001})
    assert lower(network_of(data), (3, 32, 32), 7).node("auxiliary/stage1/layer1/dense").shape == (7,)
    assert "arch.network[1].outputs has no effect" in warnings_of(data)
    data["arch"]["network"][1]["auxiliary"]["Branch1"] = "3x3"
    with pytest.raises(SpecError, match=r"arch.network\[1\].auxiliary.Branch1"):
        amla0.convert(data)


def test_numbers_of_stem_layers_may_be_skipped_and_are_sorted_as_numbers() -> None:
    stem = {"Layer10": conv(16, bias=True), "Layer2": conv(8, stride=2), "Layer7": {"Branch0": {"block": "maxpool",
            "kernel_size": [3, 3], "stride": 2}}}  # fmt: skip
    graph = graph_of(macro(layer("1x1")) | {"init_cell": stem})
    assert graph.node("stem/conv1/conv").shape == (8, 16, 16)
    assert graph.node("stem/pool2").shape == (8, 8, 8)
    assert "stem/conv3/conv.bias" in {weight.name for weight in weights(graph)}


# -------------------------------------------------------------------------------------------------------------------- micro
def test_cells_read_earlier_cells_by_offset_and_auxiliaries_do_not_count() -> None:
    nodes = {"node1": -1, "node2": 0, "node3": {"node": {"type": "concat"}, "input": ["node1", "node2"]}}
    auxiliary = {"node1": 0, "node2": {"node": {"type": "dense", "outputs": 10}, "input": ["node1"]}}
    data = micro(nodes, ["normal_cell", "auxiliary_classifier", "normal_cell"], auxiliary_classifier=auxiliary)
    graph = graph_of(data)
    assert graph.node("cell1/node3").inputs == ("stem/conv1/act", "stem/conv1/act")
    assert graph.node("cell2/node3").inputs == ("stem/conv1/act", "cell1/fit/conv")
    assert graph.auxiliaries == ("auxiliary/cell1/dense",)


def test_operations_of_cells() -> None:
    kinds: list[dict[str, Any]] = [
        {"type": "identity"},
        {"type": "1x1", "stride": 2},
        {"type": "2x2maxpool"},
        {"type": "5x5dilated"},
        {"type": "3x3sep", "filters": 5},
        {"type": "3x3avg"},
    ]
    nodes: dict[str, Any] = {"node0": 0}
    nodes |= {f"node{n}": {"node": kind, "input": ["node0"]} for n, kind in enumerate(kinds, 1)}
    nodes["node9"] = {"node": {"type": "concat"}, "input": [f"node{n}" for n in range(1, 7)]}
    data = micro(nodes, ["normal_cell"])
    network = network_of(data)
    assert isinstance(network, MicroArchitecture)
    found = [node.operation for node in network.cells["normal_cell"].nodes]
    assert found == ["identity", "1x1", "2x2maxpool", "5x5dil2", "3x3sep", "3x3avgpool", "concat"]
    graph = lower(network, (3, 32, 32), 10)
    assert graph.node("cell1/node9").shape == (8 * 5 + 5, 16, 16)
    assert graph.node("cell1/node3/dropout").op == "dropout", "pools too"
    assert "read as average pooling" in warnings_of(data)


def test_what_an_auxiliary_cell_holds_beside_its_dense_layer_has_no_effect() -> None:
    nodes = {"node1": 0, "node2": {"node": {"type": "3x3"}, "input": ["node1"]}}
    auxiliary = {"node1": 0, "node2": {"node": {"type": "5x5"}, "input": ["node1"]}}
    data = micro(nodes, ["normal_cell", "auxiliary_classifier"], auxiliary_classifier=auxiliary)
    assert "arch.auxiliary_classifier.node2 has no effect" in warnings_of(data)


# --------------------------------------------------------------------------------------------------- data and other algorithms
def test_imagenet() -> None:
    data = macro(layer("1x1"))
    data["parameters"] |= {"dataset": "imagenet", "data_dir": "/data/imagenet", "image_size": 224}
    data["classification_cell"] = HEAD | {"Layer5": {"Branch0": {"block": "fc-final", "outputs": 1001}}}
    spec, warnings = amla0.convert(data)
    assert (spec.dataset.name, spec.dataset.image_size) == ("folder:/data/imagenet", 224)
    assert any("background" in warning for warning in warnings)


CONSTRUCT = file(
    "construct",
    "envelopenet",
    parameters={"iterations": 2},
    envelopenet={
        "stages": 2, "layers_per_stage": [1, 2], "max_layers_per_stage": [2, 2], "construction": [True, False, True],
        "parameter_limits": [True, False], "max_filter_prune": 2, "envelopecell": {"Branch1": "1x1", "Branch2": "3x3sep"},
        "skip": True,
    },
)  # fmt: skip
RANDOM = file(
    "oneshot",
    "random",
    random={
        "stages": 2, "layers_per_stage": [1, 2], "parameter_limits": [False, False], "num_blocks_per_stage": [2, 3],
        "blocks": ["1x1", "3x3", "3x3dilated"],
    },
)  # fmt: skip
PROBLEM = Problem(input_shape=(3, 8, 8), num_classes=4, train_size=50)


def buildable(spec: ExperimentSpec) -> None:
    """Whoever reads the experiment next takes it: the searcher, the space and the trainer."""
    Training.parse(spec.training)
    if spec.searcher == "fixed":
        parse_architecture(spec.settings["architecture"])
        return
    space = EnvelopeSpace(EnvelopeSettings.parse(spec.space_settings), PROBLEM)
    space.initial()
    space.sample(PROBLEM.rng(0))
    if spec.searcher == "nac":
        NACSettings.parse(spec.settings)


def test_what_is_read_can_be_searched() -> None:
    for data in (CONSTRUCT, RANDOM, CONSTRUCT | {"parameters": CONSTRUCT["parameters"] | {"mode": "oneshot"}}):
        buildable(amla0.convert(data)[0])
    assert amla0.convert(RANDOM)[0].space_settings["operations"] == ["1x1", "3x3", "3x3dil"]


@pytest.mark.parametrize(
    ("base", "path", "value", "key"),
    [
        (RANDOM, "random.num_blocks_per_stage", [2, 1], "random.num_blocks_per_stage"),
        (RANDOM, "random.layers_per_stage", [0, 1], "random.layers_per_stage"),
        (RANDOM, "random.blocks", ["7y7"], "random.blocks"),
        (CONSTRUCT, "envelopenet.max_filter_prune", -1, "envelopenet.max_filter_prune"),
        (CONSTRUCT, "envelopenet.layers_per_stage", [1], "envelopenet.layers_per_stage"),
        (CONSTRUCT, "init_cell.Layer0", conv(1), "envelopenet.envelopecell"),
        (CONSTRUCT, "parameters.iterations", 10**9, "parameters.iterations"),
        (CONSTRUCT, "parameters.batch_size", 10**9, "child_training.*batch_size"),
        (CONSTRUCT, "init_cell.Layer0", conv(10**9), "init_cell.Layer0.Branch0.*channels"),
        (CONSTRUCT, "init_cell.Layer0", conv(8, stride=99), "init_cell.Layer0.Branch0.*stride"),
        (CONSTRUCT, "init_cell", {"Layer²": conv(8)}, "init_cell.Layer²"),
        (CONSTRUCT, "child_training.lr.initial", math.nan, "child_training.lr.initial"),
        (CONSTRUCT, "child_training.lr.initial", 10**400, "child_training.lr.initial"),
        (CONSTRUCT, "parameters.dataset", "", "parameters.dataset"),
    ],
)
def test_values_out_of_bounds_name_their_key(base: dict[str, Any], path: str, value: Any, key: str) -> None:
    data = copy.deepcopy(base)
    *above, last = path.split(".")
    place = data
    for name in above:
        place = place[name]
    place[last] = value
    with pytest.raises(SpecError, match=key):
        amla0.convert(data)


# --------------------------------------------------------------------------------------------------------------- broken files
BASES = [
    CONSTRUCT,
    RANDOM,
    macro(
        layer("3x3"), {"widener2": {}, "inputs": [0]}, {"auxiliary": {"Branch1": "Dense"}}, layer("1x1", inputs="all")
    ),
    micro(
        {"node1": -1, "node2": {"node": {"type": "5x5dilated", "rate": 3}, "input": ["node1"]}},
        ["normal_cell", "auxiliary_classifier"],
        auxiliary_classifier={"node1": 0, "node2": {"node": {"type": "dense", "outputs": 3}, "input": ["node1"]}},
    ),
]
JUNK = st.one_of(
    st.sampled_from([None, True, "all", "", "3x3", "nan", -1, 0, 1, 10**9, 10**400, 0.5, math.nan, math.inf, [], {}]),
    st.lists(st.integers(-2, 9), max_size=3),
    st.text(max_size=3),
)


def places(data: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a document."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path for key, value in inner for path in [(*above, key), *places(value, (*above, key))]]


@settings(max_examples=300)
@given(st.data())
def test_any_edit_of_any_file_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    broken = copy.deepcopy(data.draw(st.sampled_from(BASES)))
    for _ in range(data.draw(st.integers(1, 2))):
        *above, last = data.draw(st.sampled_from(places(broken)))
        place: Any = broken
        for key in above:
            place = place[key]
        how = data.draw(st.sampled_from(["put", "drop", "rename"]))
        value = place[last] if how == "rename" else data.draw(JUNK)
        if how != "put" or isinstance(place, list):
            place.pop(last)
        if how != "drop" and isinstance(place, dict):
            place[data.draw(st.text(max_size=4)) if how == "rename" else last] = value
        elif how != "drop":
            place.insert(last, value)
    try:
        spec, warnings = amla0.convert(broken)
    except SpecError as error:
        spec, warnings = None, (str(error),)
    assert all("\n" not in warning for warning in warnings)
    if spec is not None:
        assert ExperimentSpec.from_json(spec.to_json()) == spec
        buildable(spec)


@pytest.mark.parametrize(
    ("group", "named"),
    [
        ((), "mixup"),
        (("parameters",), "parameters.mixup"),
        (("child_training",), "child_training.mixup"),
        (("child_training", "lr"), "child_training.lr.mixup"),
        (("init_cell", "Layer0", "Branch0"), "init_cell.Layer0.Branch0.mixup"),
        (("arch",), "arch.mixup"),
        (("arch", "network", 0), "arch.network[0].mixup"),
    ],
)
def test_a_key_that_nobody_knows_is_named(group, named):
    data = copy.deepcopy(macro(layer("3x3")))
    place: Any = data
    for key in group:
        place = place[key]
    place["mixup"] = 0.2
    with pytest.raises(SpecError, match=re.escape(f"{named}: no such key")):
        amla0.convert(data)


def test_a_key_that_means_something_elsewhere_is_warned_of():
    data = copy.deepcopy(macro(layer("3x3")))
    data["child_training"]["optimizer"]["momentum"] = 0.9
    data["child_training"]["lr"]["T_mul"] = 2
    _, warnings = amla0.convert(data)
    assert [warning.split(" ")[0] for warning in warnings] == [
        "child_training.optimizer.momentum",
        "child_training.lr.T_mul",
    ]

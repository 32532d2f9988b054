"""Files of AMLA 0.x, read unmodified."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amla.errors import SpecError
from amla.spec import amla0
from amla.spec.architecture import MacroArchitecture, MicroArchitecture, parse_architecture
from amla.spec.costs import costs
from amla.spec.experiment import ExperimentSpec
from amla.spec.graph import Graph, weights
from amla.spec.lower import lower
from amla.spec.training import SGD, Clip, CosineRestarts, Exponential, RMSprop, Training


def task(**changes: Any) -> dict[str, Any]:
    """A small task of our own, with parts replaced."""
    data: dict[str, Any] = {
        "parameters": {
            "arch_name": "small",
            "mode": "train",
            "algorithm": "deterministic",
            "steps": 100,
            "batch_size": 50,
            "dataset": "cifar10",
            "image_size": 32,
        },
        "child_training": {
            "optimizer": {"type": "momentum", "momentum": 0.8},
            "lr": {"type": "exponential_decay", "initial": 0.1, "decay": 0.9, "epochs_per_decay": 3},
        },
        "init_cell": {"Layer0": {"Branch0": {"block": "conv2d", "kernel_size": [3, 3], "outputs": 12}}},
        "classification_cell": {
            "Layer0": {"Branch0": {"block": "reduce_mean", "size": [1, 2]}},
            "Layer1": {"Branch0": {"block": "fc-final", "inputs": 12, "outputs": 10}},
        },
        "arch": {
            "type": "macro",
            "network": [
                {"filters": {"Branch1": "1x1", "Branch4": "5x5"}, "outputs": 12},
                {"filters": {"Branch1": "3x3sep"}, "outputs": 12, "inputs": "all"},
                {"widener": {}},
                {"filters": {"Branch2": "3x3"}, "outputs": 24, "inputs": [1, 3]},
            ],
        },
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        place = data
        for key in above:
            place = place[key]
        place[last] = value
    return data


def network_of(spec: ExperimentSpec) -> MacroArchitecture | MicroArchitecture:
    return parse_architecture(spec.settings["architecture"])


def graph_of(data: dict[str, Any]) -> Graph:
    return lower(network_of(amla0.convert(data)[0]), (3, 32, 32), 10)


def training_of(data: dict[str, Any]) -> Training:
    return Training.parse(amla0.convert(data)[0].training)


# ------------------------------------------------------------------------------------------------------- the original's own
@pytest.mark.parametrize(
    "name", ["darts", "enas", "nac.construction", "nac.construction.test", "nac.final", "run.test"]
)
def test_every_file_of_the_original_is_read(task_files: Path, name: str) -> None:
    spec, _ = amla0.convert(json.loads((task_files / f"config.{name}.json").read_text()))
    assert ExperimentSpec.from_json(spec.to_json()) == spec
    if spec.searcher == "fixed":
        graph = lower(network_of(spec), (3, 32, 32), 10)
        assert graph.num_classes == 10


def test_the_published_final_network_has_its_published_size(task_files: Path) -> None:
    """Published: about 10.9 M parameters, 4.0 M of them in skip bottlenecks. The original lost the channels that do not come
    out even (10,942,475 parameters); here they are shared out, which makes 1 % more."""
    spec, warnings = amla0.convert(json.loads((task_files / "config.nac.final.json").read_text()))
    graph = lower(network_of(spec), (3, 32, 32), 10)
    assert costs(graph).parameters == 11_042_241
    bottlenecks = sum(math.prod(w.shape) for w in weights(graph) if w.trained and "/bottleneck/" in w.name)
    assert bottlenecks == 4_050_560
    assert any("none is lost here" in warning for warning in warnings)


def test_the_published_construction_is_nac_as_published(task_files: Path) -> None:
    spec, _ = amla0.convert(json.loads((task_files / "config.nac.construction.json").read_text()))
    assert spec.searcher == "nac"
    assert spec.settings == {
        "mode": "afresh",
        "iterations": 5,
        "criterion": "mean_square",
        "max_prune": 6,
        "construction": [True, True, False],
    }
    assert spec.space_settings["width"] == 64
    assert spec.space_settings["max_layers"] == [7, 6, 2]
    assert spec.budget is not None
    assert spec.budget.steps == 10_000


def test_system_json_is_recognised(task_files: Path) -> None:
    data = json.loads((task_files / "system.json").read_text())
    assert amla0.recognise(data) == "system"
    report = "\n".join(amla0.system_report(data))
    assert all(key in report for key in data)


def test_a_system_report_repeats_no_value() -> None:
    data = {"database": {"user": "anna", "password": "hunter2"}, "host": {"train": "gpu7"}}
    report = "\n".join(amla0.system_report(data))
    assert "--store" in report
    assert not any(secret in report for secret in ("anna", "hunter2", "gpu7"))


# ------------------------------------------------------------------------------------------------------------ macro networks
def test_inputs_count_the_items_and_0_is_the_stem() -> None:
    network = network_of(amla0.convert(task())[0])
    assert isinstance(network, MacroArchitecture)
    first, second = network.stages[0].layers
    assert first.skips is None
    assert second.skips == ("stem",)  # "all" but the layer just before
    assert network.stages[1].layers[0].skips == ("stage1/layer1", "stage1/widener")


def test_an_auxiliary_counts_as_an_item_and_passes_on_what_it_reads() -> None:
    items = [
        {"filters": {"Branch1": "1x1"}, "outputs": 12},
        {"auxiliary": {"Branch1": "Dense"}, "outputs": 10},
        {"filters": {"Branch1": "1x1"}, "outputs": 12, "inputs": [0, 2]},
    ]
    network = network_of(amla0.convert(task(arch__network=items))[0])
    assert isinstance(network, MacroArchitecture)
    assert [aux.source for aux in network.auxiliaries] == ["stage1/layer1"]
    assert network.stages[0].layers[1].skips == ("stem", "stage1/layer1")


def test_widener2_pools_what_it_reads_together() -> None:
    items = [
        {"filters": {"Branch1": "3x3"}, "outputs": 12},
        {"filters": {"Branch1": "3x3"}, "outputs": 12},
        {"widener2": {}, "inputs": [1]},
        {"filters": {"Branch1": "3x3"}, "outputs": 24},
    ]
    nodes = graph_of(task(arch__network=items)).by_name()
    assert nodes["stage1/widener/pool"].shape == (24, 16, 16)


def test_channels_that_do_not_come_out_even_are_shared_out() -> None:
    items = [{"filters": {"Branch1": "1x1", "Branch2": "3x3", "Branch3": "5x5"}, "outputs": 11}]
    spec, warnings = amla0.convert(task(arch__network=items))
    network = network_of(spec)
    assert isinstance(network, MacroArchitecture)
    assert [branch.channels for branch in network.stages[0].layers[0].branches] == [4, 4, 3]
    assert any("arch.network[0].outputs" in warning for warning in warnings)


def test_stem_and_head_are_read_step_by_step() -> None:
    stem = {
        "Layer2": {"Branch0": {"block": "lrn"}},
        "Layer0": {"Branch0": {"block": "cutout", "size": 8}},
        "Layer1": {"Branch0": {"block": "conv2d", "kernel_size": [3, 3], "outputs": 6, "stride": 2, "bias": True}},
    }
    nodes = graph_of(task(init_cell=stem)).nodes
    assert [node.op for node in nodes[:6]] == ["input", "cutout", "conv", "norm", "activation", "lrn"]
    assert nodes[2].shape == (6, 16, 16)


# ------------------------------------------------------------------------------------------------------------- micro networks
def micro(nodes: dict[str, Any], network: list[str]) -> dict[str, Any]:
    return task(
        arch={
            "type": "micro",
            "normal_cell": nodes,
            "reduction_cell": nodes,
            "auxiliary_classifier": {
                "node1": 0,
                "node2": {"node": {"type": "dense", "outputs": 10}, "input": ["node1"]},
            },
            "network": network,
        }
    )


def test_micro_cells_stack_and_double_where_they_reduce() -> None:
    nodes = {
        "node1": -1,
        "node2": 0,
        "node3": {"node": {"type": "3x3avg"}, "input": ["node2"]},
        "node4": {"node": {"type": "5x5dilated", "rate": 3}, "input": ["node1"]},
        "node10": {"node": {"type": "concat"}, "input": ["node3", "node4"]},
        "node5": {"node": {"type": "3x3maxpool", "stride": 2}, "input": ["node2"]},
        "node11": {"node": {"type": "add"}, "input": ["node10", "node5"]},
    }
    spec, warnings = amla0.convert(micro(nodes, ["normal_cell", "auxiliary_classifier", "reduction_cell"]))
    network = network_of(spec)
    assert isinstance(network, MicroArchitecture)
    assert [placement.width for placement in network.network] == [12, 24]
    assert [aux.source for aux in network.auxiliaries] == ["cell1"]
    assert [node.operation for node in network.cells["normal_cell"].nodes] == [
        "3x3avgpool", "5x5dil3", "3x3maxpool", "concat", "add",
    ]  # fmt: skip
    assert any("average pooling" in warning for warning in warnings)
    graph = lower(network, (3, 32, 32), 10)
    assert graph.node("cell1/node11/reduce1/conv1").shape == (24, 16, 16)


# ----------------------------------------------------------------------------------------------------------------- training
def test_training_is_read() -> None:
    training = training_of(
        task(
            child_training={
                "optimizer": {"type": "rms", "decay": 0.8, "momentum": 0.7, "epsilon": 0.5},
                "lr": {"type": "cosine_decay", "max": 0.05, "min": 0.001, "T_mul": 2, "T_0": 10},
                "gradient_clipping": {"type": "value", "value": 2},
                "regularization": {"type": "l2", "value": 1e-4},
                "label_smoothing": {"value": 0.1},
            }
        )
    )
    assert training.optimizer == RMSprop(decay=0.8, momentum=0.7, epsilon=0.5, weight_decay=1e-4)
    assert training.schedule == CosineRestarts(rate=0.05, minimum=0.001, first=10.0, factor=2.0)
    assert training.clip == Clip(kind="value", value=2.0)
    assert training.label_smoothing == 0.1


def test_momentum_is_nesterovs_and_the_decay_is_in_epochs() -> None:
    training = training_of(task())
    assert training.optimizer == SGD(momentum=0.8, nesterov=True)
    assert training.schedule == Exponential(rate=0.1, factor=0.9, epochs=3.0)


def test_a_larger_image_size_is_padding_and_a_crop() -> None:
    assert training_of(task(parameters__image_size=40)).augmentation.pad_crop == 4
    assert training_of(task(parameters__image_size=40)).augmentation.flip
    assert training_of(task()).augmentation.pad_crop == 0


# --------------------------------------------------------------------------------------------------------- modes and errors
ENVELOPENET = {
    "stages": 2,
    "layers_per_stage": [1, 1],
    "max_layers_per_stage": [2, 1, 9],
    "envelopecell": {"Branch1": "1x1", "Branch2": "3x3"},
    "max_filter_prune": 3,
    "worst_case": True,
}
RANDOM = {
    "stages": 1,
    "layers_per_stage": [2],
    "parameter_limits": [True],
    "num_blocks_per_stage": [5],
    "blocks": ["1x1", "3x3"],
}


def construction(mode: str, algorithm: str, **groups: Any) -> dict[str, Any]:
    data = task(parameters__mode=mode, parameters__algorithm=algorithm, **groups)
    del data["arch"]
    return data


def test_modes_and_algorithms() -> None:
    spec, warnings = amla0.convert(construction("construct", "envelopenet", envelopenet=ENVELOPENET, skip=True))
    assert spec.searcher == "nac"
    assert spec.settings["criterion"] == "worst"
    assert spec.space_settings["skips"] is True
    assert any("max_layers_per_stage has 3 values for 2 stages" in warning for warning in warnings)
    assert amla0.convert(construction("oneshot", "envelopenet", envelopenet=ENVELOPENET))[0].searcher == "envelope"
    spec, _ = amla0.convert(construction("oneshot", "random", random=RANDOM))
    assert (spec.searcher, spec.trials, spec.space_settings["blocks"]) == ("random", 1, [5])
    assert amla0.convert(construction("construct", "random", random=RANDOM))[0].trials == 5
    assert amla0.convert(task(parameters__mode="oneshot"))[0].searcher == "fixed"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"parameters__mode": "dream"}, "parameters.mode"),
        ({"parameters__algorithm": "darts"}, "parameters.algorithm"),
        ({"parameters__steps": "many"}, "parameters.steps"),
        ({"parameters__batch_size": 0}, "parameters.batch_size"),
        ({"child_training__optimizer": {"type": "lion"}}, "child_training.optimizer.type"),
        ({"child_training__lr": {"type": "linear"}}, "child_training.lr.type"),
        ({"child_training__regularization": {"type": "l1", "value": 1}}, "child_training.regularization.type"),
        ({"init_cell": {"Layer0": {"Branch0": {"block": "warp"}}}}, "init_cell.Layer0.Branch0.block"),
        ({"init_cell": {"Layer0": {"Branch0": {"block": "lrn"}}}}, "init_cell"),
        ({"classification_cell": {"Layer0": {"Branch0": {"block": "flatten"}}}}, "classification_cell"),
        ({"arch": {"type": "nano", "network": []}}, "arch.type"),
        ({"arch__network": [{"filters": {"Branch1": "3x4"}, "outputs": 12}]}, r"arch.network\[0\].filters.Branch1"),
        (
            {"arch__network": [{"filters": {"Branch1": "3x3"}, "outputs": 12, "inputs": [1]}]},
            r"arch.network\[0\].inputs",
        ),
        ({"arch__network": [{"filter": {}}]}, r"arch.network\[0\]"),
        ({"parameters__shoe_size": 43}, "parameters.shoe_size"),
    ],
)
def test_what_cannot_be_had_names_its_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(SpecError, match=key):
        amla0.convert(task(**changes))


def test_what_has_no_effect_is_a_warning() -> None:
    _, warnings = amla0.convert(task(parameters__gpus=[0, 1], comment="hello"))
    assert any(warning.startswith("parameters.gpus has no effect") for warning in warnings)
    assert any(warning.startswith("comment has no effect") for warning in warnings)


@settings(max_examples=150)
@given(st.data())
def test_a_broken_file_is_an_error_or_read(data: st.DataObject) -> None:
    broken = copy.deepcopy(task())
    place: Any = broken
    for _ in range(data.draw(st.integers(1, 6))):
        key = data.draw(st.sampled_from(sorted(place))) if isinstance(place, dict) and place else None
        if key is None or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    junk = st.none() | st.integers(-3, 3) | st.text(max_size=3) | st.lists(st.integers(), max_size=2) | st.just({})
    if isinstance(place, dict) and place:
        key = data.draw(st.sampled_from(sorted(place)))
        if data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(junk)
    elif isinstance(place, list) and place:
        place[0] = data.draw(junk)
    try:
        spec, _ = amla0.convert(broken)
    except SpecError:
        return
    assert ExperimentSpec.from_json(spec.to_json()) == spec

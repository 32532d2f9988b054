"""Documents: round trips, unknown keys, schemas, golden files."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given

from amla.errors import SpecError
from amla.spec import architecture as a
from amla.spec.data import DatasetSpec
from amla.spec.experiment import ExperimentSpec, trial_seed
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.surgery import surgery_plan
from amla.spec.training import Budget, steps_per_epoch
from amla.spec.trial import Result, TrialSpec
from amla.testing.strategies import architectures

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


def small_macro() -> a.MacroArchitecture:
    branches = (
        a.Branch(name="branch1", operation="3x3", channels=4),
        a.Branch(name="branch2", operation="5x5sep", channels=4),
    )
    return a.MacroArchitecture(
        stem=(a.ConvStep(channels=8),),
        stages=(
            a.Stage(
                name="stage1",
                layers=(a.Layer(name="layer1", branches=branches), a.Layer(name="layer2", branches=branches, skips=())),
                widener=a.Widener(channels=8),
            ),
            a.Stage(name="stage2", layers=(a.Layer(name="layer1", branches=branches, skips=("stage1/layer1",)),)),
        ),
        auxiliaries=(a.Auxiliary(source="stage1/layer1"),),
    )


def small_micro() -> a.MicroArchitecture:
    cell = a.Cell(
        inputs={"a": 0, "b": -1},
        nodes=(
            a.CellNode(name="n1", operation="3x3sep", inputs=("a",), channels="width"),
            a.CellNode(name="n2", operation="3x3maxpool", inputs=("b",)),
            a.CellNode(name="n3", operation="add", inputs=("n1", "n2")),
        ),
    )
    return a.MicroArchitecture(
        stem=(a.ConvStep(channels=4),),
        cells={"normal": cell},
        network=(a.Placement(name="cell1", cell="normal", width=6),),
    )


@given(architectures())
def test_architectures_survive_json_and_their_schema_takes_them(
    architecture: a.MacroArchitecture | a.MicroArchitecture,
) -> None:
    text = architecture.to_json()
    assert a.parse_architecture(text) == architecture
    assert a.parse_architecture(text).to_json() == text
    jsonschema.validate(json.loads(text), a.architecture_schema())


@given(architectures())
def test_graphs_survive_json(architecture: a.MacroArchitecture | a.MicroArchitecture) -> None:
    graph = lower(architecture, (3, 8, 8), 5)
    assert Graph.from_json(graph.to_json()) == graph


def test_formats_do_not_change_unnoticed(golden: Callable[[Path, str], None]) -> None:
    macro = small_macro()
    graph = lower(macro, (3, 8, 8), 5)
    documents = {
        "macro": macro,
        "micro": small_micro(),
        "graph": graph,
        "plan": surgery_plan(graph, lower(macro.model_copy(update={"auxiliaries": ()}), (3, 8, 8), 5)),
        "trial": TrialSpec(
            architecture=macro, budget=Budget(steps=3), instruments=("feature_map",), parent=2, inherit="state"
        ),
        "result": Result(metrics={"valid": {"accuracy": 0.5}}, statistics={"stage1/layer1/branch1": {"mean": 0.25}}),
        "experiment": ExperimentSpec(dataset=DatasetSpec(name="digits")),
    }
    for name, document in documents.items():
        golden(GOLDEN / f"{name}.json", document.to_json(indent=2) + "\n")


def test_the_published_schema_is_the_schema(golden: Callable[[Path, str], None]) -> None:
    golden(ROOT / "docs" / "schema" / "architecture-1.json", json.dumps(a.architecture_schema(), indent=2) + "\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"version": 2}, "version"),
        ({"stages": []}, "stages"),
        ({"stem": [{"op": "conv", "channels": 0}]}, "channels"),
        ({"stem": [{"op": "warp"}]}, "op"),
        ({"auxiliaries": [{"source": "stage9/layer1"}]}, "stage9/layer1"),
    ],
)
def test_a_wrong_document_names_the_key(change: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        a.parse_architecture(small_macro().to_data() | change)


def test_references_must_point_backwards() -> None:
    data = small_macro().to_data()
    data["stages"][0]["layers"][0]["skips"] = ["stage1/layer2"]
    with pytest.raises(SpecError, match="not an earlier output"):
        a.parse_architecture(data)


@pytest.mark.parametrize("name", ["3x4", "0x0", "33x33", "3x3what", "conv", "3x3sep2", ""])
def test_unknown_operations_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="no operation is called"):
        a.Branch.parse({"name": "b", "operation": name, "channels": 1})


def test_budgets() -> None:
    assert Budget(epochs=2).in_steps(100, 30) == 6
    assert Budget(steps=7).in_steps(100, 30) == 7
    assert Budget(seconds=1.0).in_steps(100, 30) is None
    assert steps_per_epoch(10, 64) == 1
    with pytest.raises(SpecError, match="exactly one"):
        Budget.parse({"steps": 1, "epochs": 1})


def test_trial_seeds_differ_and_stay() -> None:
    seeds = [trial_seed(0, number) for number in range(100)]
    assert len(set(seeds)) == 100
    assert seeds[0] == 2968811710
    assert trial_seed(1, 0) not in seeds

"""The plan of a network's cells: measured once, the first answer stands, stored with the experiment."""

import json
from collections.abc import Mapping
from pathlib import Path

import platformdirs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.testing.trainers import network
from amla.trainers.cells import cells_of
from amla.trainers.torch import kernels
from amla.trainers.torch.cells import Rule
from amla.trainers.torch.kernels import RULES, Shape, from_json, measured_rules, nearest, to_json
from amla.trainers.torch.module import build

CPU = torch.device("cpu")
side = st.integers(1, 512)
plans: st.SearchStrategy[Mapping[Shape, Rule]] = st.dictionaries(
    st.tuples(side, side, side, side), st.sampled_from(RULES), max_size=4
)


@pytest.fixture
def graph() -> Graph:
    return lower(network(layers=3), (1, 8, 8), 10)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return platformdirs.user_cache_path("amla") / "kernels"


@given(plans)
def test_a_plan_survives_being_stored(plan: Mapping[Shape, Rule]) -> None:
    assert from_json(json.loads(json.dumps(to_json(plan)))) == plan
    assert from_json(None) == {}


@given(plans, st.tuples(side, side, side, side))
def test_every_shape_has_a_rule_and_its_own_where_there_is_one(plan: Mapping[Shape, Rule], shape: Shape) -> None:
    assert nearest(plan, shape) in (plan.values() or (Rule(),))
    assert all(nearest(plan, known) == rule for known, rule in plan.items())


def test_a_shape_in_between_goes_by_the_nearest() -> None:
    plan = {(16, 16, 32, 32): RULES[1], (64, 64, 8, 8): RULES[2]}
    assert nearest(plan, (16, 10, 32, 32)) == RULES[1]
    assert nearest(plan, (128, 64, 8, 8)) == RULES[2]


def test_what_is_measured_is_the_least_of_every_way(graph: Graph) -> None:
    cell = max(cells_of(graph), key=lambda cell: len(cell.branches))
    found = kernels.seconds(cell, 4, CPU, "float32")
    assert found.keys() == set(RULES)
    assert min(found.values()) > 0.0


def test_a_way_that_is_much_slower_is_not_tried_again(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def timed(module: object, *_: object) -> float:
        tried.append(id(module))
        return (1.0, 1.4, 1.6)[list(dict.fromkeys(tried)).index(id(module))]

    monkeypatch.setattr(kernels, "_pass", timed)
    monkeypatch.setattr(kernels, "SECONDS", 60.0)
    found = kernels.seconds(next(iter(cells_of(graph))), 4, CPU, "float32", RULES[:3])
    assert list(found.values()) == [1.0, 1.4, 1.6]
    assert [tried.count(module) for module in dict.fromkeys(tried)] == [1 + kernels.TURNS, 1 + kernels.TURNS, 2]


def test_the_first_answer_of_a_machine_stands(graph: Graph, cache: Path) -> None:
    first = measured_rules(graph, 4, CPU, "float32")
    assert first
    kept = sorted(cache.iterdir())
    assert measured_rules(graph, 4, CPU, "float32") == first
    assert sorted(cache.iterdir()) == kept
    for path in kept:
        path.write_text(json.dumps({"levels": [3, 9], "separable": 9, "matrices": True}))
    assert set(measured_rules(graph, 4, CPU, "float32").values()) == {Rule((3, 9), 9, True)}
    assert measured_rules(graph, 4, CPU, "bfloat16").keys() == first.keys()  # another dtype is another question
    assert len(list(cache.iterdir())) == 2 * len(kept)


def test_without_a_place_to_remember_it_is_measured_all_the_same(
    graph: Graph, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file where the folder should be")
    assert measured_rules(graph, 4, CPU, "float32")
    assert "cannot be written" in caplog.text


def test_measuring_changes_no_random_number(graph: Graph) -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    measured_rules(graph, 4, CPU, "float32")
    assert torch.equal(torch.rand(2), expected)


def test_a_plan_leaves_names_and_weights_as_they_are(graph: Graph) -> None:
    module, plain = build(graph, seed=3), build(graph, seed=3)
    kernels.join(module, {(12, 12, 8, 8): Rule((3, 5, 7), 7)})
    assert module.joints
    assert module.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in module.state_dict().items())

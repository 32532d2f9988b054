"""The report of a run: everything in one file, for runs that ended well, badly or not yet."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from amla.errors import SpecError
from amla.reports import experiment_yaml, write_diagrams, write_run
from amla.reports.charts import Dot, Line, dot_chart, frontier, line_chart, ticks
from amla.reports.figures import predecessors
from amla.reports.report import MOST_SHOWN, report
from amla.reports.words import date, duration, phrase
from amla.spec.architecture import MacroArchitecture, MicroArchitecture, parse_architecture
from amla.spec.costs import costs
from amla.spec.data import DatasetInfo, DatasetSpec
from amla.spec.experiment import Experiment, ExperimentSpec, Problem
from amla.spec.lower import lower
from amla.spec.training import Budget
from amla.spec.trial import Cost, Failure, Point, Result, Trial, TrialSpec

INFO = DatasetInfo(
    name="shapes",
    shape=(8, 8, 1),
    classes=("circle", "square", "<b>star</b> & co"),
    sizes={"train": 900, "valid": 100, "test": 100},
    mean=(0.3,),
    std=(0.2,),
)
OPERATIONS = ("1x1", "3x3", "3x3sep", "5x5sep")


def network(gone: dict[str, set[int]], layers: int) -> MacroArchitecture:
    """A stage of layers with all branches but those that are gone."""
    made = []
    for number in range(1, layers + 1):
        name = f"layer{number}"
        kept = [(n, op) for n, op in enumerate(OPERATIONS, 1) if n not in gone.get(name, set())]
        branches = [{"name": f"branch{n}", "operation": op, "channels": 4} for n, op in kept]
        made.append({"name": name, "branches": branches, "skips": [f"stage1/layer{k}" for k in range(1, number - 1)]})
    return MacroArchitecture.parse(
        {"stem": [{"op": "conv", "channels": 16}], "stages": [{"name": "stage1", "layers": made}]}
    )


def trial(number: int, architecture: Any, accuracy: float, **more: Any) -> Trial:
    """A finished trial with everything that a real one has."""
    rng = np.random.default_rng(number)
    graph = lower(architecture, INFO.input_shape, INFO.num_classes)
    statistics = {
        b.name: {"scalar": float(rng.normal()), "norm": 1.0}
        if b.kind == "skip"
        else {name: float(rng.random()) for name in ("mean", "mean_square", "variance")}
        for b in graph.blocks
    }
    found = costs(graph)
    purpose = more.pop("purpose", "search")
    result = Result(
        metrics={"valid": {"accuracy": accuracy, "loss": 1 - accuracy}},
        statistics=statistics,
        curve=tuple(Point(step=100 * number + 10 * k, seconds=k, loss=2 / (k + number + 1)) for k in range(10)),
        parameters=found.parameters,
        flops=found.flops,
        cost=Cost(seconds=3.5 + number, steps=100, device="CPU, 2 threads"),
    )
    spec = TrialSpec(architecture=architecture, budget=Budget(steps=100), purpose=purpose, **more)
    return Trial(number=number, seed=number, state="done", finished_seq=number, spec=spec, result=result)


def nac_trials() -> list[Trial]:
    """Three iterations of a construction, the last one final, and the reading of the test split."""
    first, second = network({}, 2), network({"layer1": {1, 3}}, 3)
    third = network({"layer1": {1, 3}, "layer2": {2}}, 3)
    memo = {"iteration": 1, "pruned": ["stage1/layer1/branch1", "stage1/layer1/branch3"], "grown": ["stage1/layer3"]}
    last = {"iteration": 2, "pruned": ["stage1/layer2/branch2"], "grown": [], "unlinked": [], "agreement": 0.81}
    test = Result(metrics={"test": {"accuracy": 0.9125, "loss": 0.3}}, cost=Cost(seconds=0.5))
    return [
        trial(0, first, 0.55, memo={"iteration": 0}),
        trial(1, second, 0.82, memo=memo, parent=0, inherit="state"),
        trial(2, third, 0.93, memo=last, parent=1, inherit="state", purpose="final"),
        Trial(
            number=3,
            seed=3,
            state="done",
            finished_seq=3,
            spec=TrialSpec(architecture=third, budget=Budget(steps=1), purpose="test"),
            result=test,
        ),
    ]


def experiment(**more: Any) -> Experiment:
    spec = ExperimentSpec(dataset=DatasetSpec(name="shapes"), name=more.pop("name", None), settings={"fraction": 0.3})
    problem = Problem(input_shape=INFO.input_shape, num_classes=INFO.num_classes, train_size=900)
    found: dict[str, Any] = {
        "id": "shapes-nac-1",
        "state": "done",
        "created": "2026-03-04T05:06:07+00:00",
        "spec": spec,
        "problem": problem,
        "folder": "/nowhere",
        "measured": {"dtype": "float32", "threads": 2, "device": "CPU, 2 threads"},
    }
    return Experiment(**(found | more))


class _Page(HTMLParser):
    """Checks that tags are closed in order, and collects text and attributes."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id" and not str(value).startswith("tip-"):
                self.ids.append(str(value))
            if name in ("href", "src"):
                self.links.append(str(value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(" ".join(data.split()))


def assert_self_contained(page: str) -> _Page:
    """Sound HTML that needs nothing from outside and runs nothing."""
    found = _Page(page)
    assert len(set(found.ids)) == len(found.ids)
    assert {link for link in found.links if not link.startswith("#")} == set()
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert set(re.findall(r"https?://[^\"'<) ]*", page)) <= {"http://www.w3.org/2000/svg"}
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
    return found


def test_a_finished_run() -> None:
    page = assert_self_contained(report(experiment(), nac_trials(), INFO))
    text = " | ".join(page.words)
    assert "91.25 %" in text, "the accuracy on test"
    assert "93.00 %" in text
    assert "8.0 s" in text, "the search: 3.5 + 4.5 seconds"
    assert "5.5 s" in text, "the final training"
    assert "CPU, 2 threads" in text
    assert "4 March 2026, 05:06 UTC" in text
    assert "2 branches pruned" in text
    assert "1 layer grown" in text
    assert text.count("pruned next") == 3
    assert "0.81" in text
    assert {"trial-0", "trial-1", "trial-2"} <= set(page.ids)
    assert {"circle", "square"} <= set(page.words)


def test_nothing_is_taken_for_html() -> None:
    wicked = "<script>alert('1')</script>"
    page = report(experiment(name=wicked, reason=wicked), nac_trials(), INFO)
    assert_self_contained(page)
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;star&lt;/b&gt; &amp; co" in page


def test_a_run_that_is_still_going() -> None:
    whole = nac_trials()
    waiting = whole[1].model_copy(update={"state": "running", "result": None})
    page = assert_self_contained(report(experiment(state="running"), [whole[0], waiting], INFO))
    assert "running" in " ".join(page.words)
    assert "The final network" not in page.words
    assert_self_contained(report(experiment(state="created"), [], None))


def test_the_loss_with_a_branch_switched_off_is_drawn() -> None:
    looked_at = nac_trials()[0]
    assert looked_at.result
    statistics = {name: {"switched_off": -0.1 * place} for place, name in enumerate(looked_at.result.statistics)}
    result = looked_at.result.model_copy(update={"statistics": statistics})
    page = report(experiment(), [looked_at.model_copy(update={"result": result})], INFO)
    assert "switched off, against the largest of its stage" in page


def test_failures_are_told_with_their_reason() -> None:
    whole = nac_trials()
    failure = Result(
        failure=Failure(kind="nan", reason="the loss is NaN at step 7"),
        curve=(Point(step=1, seconds=0.1, loss=math.nan), Point(step=7, seconds=0.2, loss=math.inf)),
    )
    failed = whole[1].model_copy(update={"state": "failed", "result": failure})
    text = " ".join(assert_self_contained(report(experiment(), [whole[0], failed], INFO)).words)
    assert "nan: the loss is NaN at step 7" in text
    cancelled = whole[1].model_copy(update={"state": "cancelled", "result": None})
    assert "cancelled" in " ".join(assert_self_contained(report(experiment(), [whole[0], cancelled], INFO)).words)


def test_a_long_run_shows_the_best_and_the_last() -> None:
    architecture = network({}, 1)
    trials = [trial(n, architecture, 0.5 + 0.3 * math.sin(n)) for n in range(MOST_SHOWN + 30)]
    page = assert_self_contained(report(experiment(), trials, INFO).replace('href="#trial-', 'data-x="'))
    shown = [name for name in page.ids if name.startswith("trial-")]
    best = max(trials, key=lambda t: t.result.accuracy if t.result else -1.0)
    assert len(shown) <= MOST_SHOWN
    assert f"trial-{best.number}" in shown
    assert f"trial-{trials[-1].number}" in shown


def test_cells_can_be_reported() -> None:
    cells = {"cell": {"inputs": {"a": 0}, "nodes": [{"name": "n", "operation": "3x3sep", "inputs": ["a"]}]}}
    places = [{"name": f"place{n}", "cell": "cell", "width": 8} for n in range(3)]
    micro = MicroArchitecture.parse({"stem": [{"op": "conv", "channels": 8}], "cells": cells, "network": places})
    assert_self_contained(report(experiment(), [trial(0, micro, 0.7), trial(1, micro, 0.8, purpose="final")], INFO))


def test_predecessors() -> None:
    whole = nac_trials()
    assert {number: before.number for number, before in predecessors(whole).items()} == {1: 0, 2: 1}
    afresh = [t.model_copy(update={"spec": t.spec.model_copy(update={"parent": None})}) for t in whole]
    assert {number: before.number for number, before in predecessors(afresh).items()} == {1: 0, 2: 1}
    lone = [trial(n, network({}, 1), 0.5) for n in range(3)]
    assert predecessors(lone) == {}


# --------------------------------------------------------------------------------------------------------------- the folder
def test_a_run_leaves_its_files(tmp_path: Path) -> None:
    whole = nac_trials()
    written = write_run(experiment(), whole, INFO, tmp_path)
    assert all(path.is_file() for path in written)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    pictures = {f"diagrams/000{n}.svg" for n in range(3)}
    assert names == {"report.html", "diagram.svg", "experiment.yaml", "architecture.json", *pictures}
    assert parse_architecture((tmp_path / "architecture.json").read_text()) == whole[2].spec.architecture
    for name in ("diagram.svg", *pictures):
        ElementTree.parse(tmp_path / name)


def test_a_run_without_a_final_network_leaves_what_it_has(tmp_path: Path) -> None:
    written = write_run(experiment(state="running"), nac_trials()[:2], None, tmp_path)
    assert {path.name for path in written} == {"report.html", "0000.svg", "0001.svg", "experiment.yaml"}
    assert write_diagrams(experiment(), [], tmp_path / "none") == []


def test_the_experiment_file_gives_the_same_experiment() -> None:
    text = experiment_yaml(experiment())
    assert text.startswith("#")
    assert "amla run experiment.yaml" in text
    spec = ExperimentSpec.parse(yaml.safe_load(text))
    assert spec.dataset == DatasetSpec(name="shapes")
    assert spec.settings == {"fraction": 0.3}
    assert yaml.safe_load(text)["training"]["precision"] == "float32", "what was measured is written out"
    assert spec.resources.threads == 2
    with pytest.raises(SpecError):
        ExperimentSpec.parse(yaml.safe_load(text) | {"unknown": 1})


def test_a_final_training_cut_for_time_is_told(tmp_path: Path) -> None:
    *before, final = [trial for trial in nac_trials() if trial.spec.purpose != "test"]
    assert final.result
    asked = Budget(steps=final.result.cost.steps + 7)
    cut = final.model_copy(update={"spec": final.spec.model_copy(update={"budget": asked, "within": 9.0})})
    for trials, words in (([*before, final], ""), ([*before, cut], "7 steps")):
        write_run(experiment(), trials, None, tmp_path)
        for name in ("experiment.yaml", "report.html"):
            text = (tmp_path / name).read_text()
            assert ("7 steps" in text) == bool(words)
    assert ExperimentSpec.parse(yaml.safe_load((tmp_path / "experiment.yaml").read_text()))


# -------------------------------------------------------------------------------------------------------- charts and words
def test_charts_leave_out_what_is_no_number() -> None:
    assert line_chart("t", "x", [Line("a", "#000000", [(0, math.nan), (1, math.inf)])]) == ""
    assert dot_chart("t", "x", []) == ""
    svg = line_chart(
        "a < b", "x", [Line("a", "#000000", [(0, 1), (1, math.nan), (2, 3)]), Line("b", "#111111", [(1, 1)])]
    )
    ElementTree.fromstring(svg)
    assert "nan" not in svg
    assert "a &lt; b" in svg
    ElementTree.fromstring(
        dot_chart("t", "x", [Dot("1", "#000000", (5.0, 5.0), "tip"), Dot("2", "#000000", (5e4, 5.0))])
    )


def test_frontier() -> None:
    assert frontier([(3, 5), (1, 2), (2, 1), (4, 5), (2, 4)]) == [(1, 2), (2, 4), (3, 5)]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.7), (1e-9, 2e-9), (99.0, 99.4), (0, 123456)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)
    step = found[1] - found[0]
    assert f"{step:.3e}"[:5] in ("1.000", "2.000", "5.000")


def test_words() -> None:
    assert (
        phrase({"kind": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.0})
        == "sgd (momentum 0.9, nesterov)"
    )
    assert phrase([1, "a"]) == "1, a"
    assert phrase(None) == phrase({}) == phrase(False) == ""
    assert duration(0.434) == "0.43 s"
    assert duration(59.94) == "59.9 s"
    assert duration(723) == "12 min 3 s"
    assert duration(12000) == "3 h 20 min"
    assert date("not a date") == "not a date"

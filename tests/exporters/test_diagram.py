"""The picture of a network: well formed, within its edges, and saying what changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amla.exporters.diagram import diagram
from amla.exporters.svg import text_width
from amla.spec.architecture import MacroArchitecture, MicroArchitecture
from amla.spec.lower import lower
from amla.testing.exporters import AnyArchitecture, example
from amla.testing.strategies import architectures, macro_architectures, micro_architectures

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"
SHAPE = (3, 12, 12)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def statistics_of(architecture: AnyArchitecture) -> dict[str, dict[str, float]]:
    blocks = lower(architecture, SHAPE, 3).blocks
    return {b.name: {"scalar": -0.7} if b.kind == "skip" else {"variance": 0.1 * n} for n, b in enumerate(blocks)}


def assert_sound(svg: str) -> None:
    """It parses, holds only numbers, refers to nothing outside, and nothing leaves the paper."""
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert "nan" not in svg
    assert "inf" not in svg.lower().replace("info", "")
    assert set(re.findall(r"https?://[^\"<]*", svg)) == {"http://www.w3.org/2000/svg"}
    for box in root.iter(f"{SVG}rect"):
        if box.attrib.get("width", "").endswith("%"):
            continue
        x, y, w, h = (float(box.attrib.get(key, 0)) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    for line in root.iter(f"{SVG}text"):
        x, y = float(line.attrib["x"]), float(line.attrib["y"])
        assert 0 <= x <= width
        assert 0 <= y <= height
        if line.attrib.get("text-anchor", "start") == "start":
            assert x + 0.9 * text_width(line.text or "", float(line.attrib["font-size"])) <= width
    for path in root.iter(f"{SVG}path"):
        x, y = 0.0, 0.0
        for kind, words in re.findall(r"([MLCZ])([^MLCZ]*)", path.attrib["d"]):
            numbers = [float(number) for number in words.split()]
            if kind == "C":  # the middle of the curve
                assert 0 <= (x + 3 * numbers[0] + 3 * numbers[2] + numbers[4]) / 8 <= width
            x, y = numbers[-2:] if numbers else (x, y)
            assert 0 <= x <= width
            assert 0 <= y <= height


@settings(max_examples=40)
@given(architecture=architectures(small=False), plain=st.booleans())
def test_any_network_can_be_drawn(architecture: AnyArchitecture, plain: bool) -> None:
    statistics = None if plain else statistics_of(architecture)
    svg = diagram(
        architecture, SHAPE, 3, statistics=statistics, statistic="" if plain else "variance", title="A <title> & more"
    )
    assert_sound(svg)
    assert "A <title> & more" in texts(svg)


@settings(max_examples=30)
@given(new=macro_architectures(), old=macro_architectures())
def test_any_two_layered_networks_compare(new: MacroArchitecture, old: MacroArchitecture) -> None:
    svg = diagram(
        new,
        SHAPE,
        3,
        parent=old,
        statistics=statistics_of(new),
        parent_statistics=statistics_of(old),
        statistic="variance",
    )
    assert_sound(svg)
    assert "grown" in texts(svg)


@settings(max_examples=30)
@given(new=micro_architectures(), old=micro_architectures())
def test_any_two_stacks_of_cells_compare(new: MicroArchitecture, old: MicroArchitecture) -> None:
    assert_sound(diagram(new, SHAPE, 3, parent=old))


def test_a_network_of_the_other_kind_is_not_compared() -> None:
    cells = {"cell": {"inputs": {"a": 0}, "nodes": [{"name": "n", "operation": "3x3", "inputs": ["a"]}]}}
    micro = MicroArchitecture.parse(
        {"stem": [], "cells": cells, "network": [{"name": "one", "cell": "cell", "width": 4}]}
    )
    assert "grown" not in texts(diagram(micro, SHAPE, 3, parent=example().architecture))


def pruned_and_grown() -> tuple[MacroArchitecture, MacroArchitecture]:
    """(before, after): stage1 loses a branch and a skip, and grows a layer; an operation of stage2 is another one."""
    before = example().architecture
    assert isinstance(before, MacroArchitecture)
    document = before.to_data()
    stage1, stage2 = document["stages"]
    del stage1["layers"][0]["branches"][1]
    stage1["layers"][1]["skips"] = []
    new = {
        "name": "layer3",
        "branches": [{"name": "branch1", "operation": "1x1", "channels": 4}],
        "skips": ["stage1/layer1"],
    }
    stage1["layers"].append(new)
    stage2["layers"][0]["branches"][0]["operation"] = "5x5"
    return before, MacroArchitecture.parse(document)


def test_what_changed_is_told_in_numbers_and_marked() -> None:
    before, after = pruned_and_grown()
    svg = diagram(after, SHAPE, 3, parent=before)
    words = texts(svg)
    assert {"1 block pruned", "1 block grown", "1 block changed", "new"} <= set(words)
    struck = [e.text for e in ElementTree.fromstring(svg).iter(f"{SVG}text") if "text-decoration" in e.attrib]
    assert struck == ["5\N{MULTIPLICATION SIGN}5 sep"]
    tips = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert any(tip and tip.endswith("was 3\N{MULTIPLICATION SIGN}3 sep") for tip in tips)
    dashed = [e for e in ElementTree.fromstring(svg).iter(f"{SVG}path") if e.attrib.get("stroke-dasharray")]
    assert len(dashed) == 1, "the skip that went"


def test_a_layer_that_went_is_shown_in_its_place() -> None:
    before, after = pruned_and_grown()
    words = texts(diagram(before, SHAPE, 3, parent=after))
    assert "removed" in words
    assert words.index("layer2") < words.index("layer3")


@pytest.mark.parametrize("name", ["diagram", "compared"])
def test_the_picture_of_one_network(name: str, golden: Callable[[Path, str], None]) -> None:
    """Look at the new file before you commit it."""
    before, after = pruned_and_grown()
    statistics = statistics_of(after)
    parent = before if name == "compared" else None
    svg = diagram(
        after,
        SHAPE,
        3,
        parent=parent,
        statistics=statistics,
        parent_statistics=statistics_of(before),
        statistic="variance",
        title="Iteration 1",
    )
    golden(GOLDEN / f"{name}.svg", svg)

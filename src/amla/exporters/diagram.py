"""``diagram.svg``: a network as a picture; beside its predecessor, what was pruned (red, dashed) and what grew (green)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import ClassVar

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights
from amla.exporters.svg import Picture, operation_colour
from amla.spec.architecture import Branch, Cell, Layer, MacroArchitecture, MicroArchitecture, Step

FILE = "diagram.svg"

BOX_W, BOX_H, GAP_X, GAP_Y = 84, 26, 26, 6
TOP, LEFT = 150, 24
GREEN, RED, INK, QUIET, LINE = "#1a7f37", "#cf222e", "#1f2328", "#656d76", "#8c959f"

AnyArchitecture = MacroArchitecture | MicroArchitecture
#: Block name -> a number that is drawn as a bar below the block.
Values = Mapping[str, float]


class DiagramExporter(Exporter):
    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:  # noqa: ARG002  # a picture needs none
        artifacts.write(str(folder), FILE, diagram(model.architecture, title=model.data.name).encode())
        return [folder / FILE]


def diagram(
    architecture: AnyArchitecture,
    *,
    parent: AnyArchitecture | None = None,
    values: Values | None = None,
    title: str = "",
    subtitle: str = "",
) -> str:
    """The picture as SVG text. ``parent`` is the network before this one; ``values`` a statistic of each block."""
    if isinstance(architecture, MacroArchitecture):
        before = parent if isinstance(parent, MacroArchitecture) else None
        return _Macro(architecture, before, values or {}).draw(title, subtitle)
    return _micro(architecture, title, subtitle)


# ---------------------------------------------------------------------------------------------------------------- macro
class _Macro:
    """Columns from left to right: the stem, each stage's layers and widener, the head."""

    def __init__(self, new: MacroArchitecture, old: MacroArchitecture | None, values: Values) -> None:
        self.new, self.values = new, values
        self.compares = old is not None
        self.old = {f"{s.name}/{x.name}": x for s in old.stages for x in s.layers} if old else {}
        self.layers = {f"{s.name}/{x.name}": x for s in new.stages for x in s.layers}
        self.rows = max((len(self._slots(p, x)) for p, x in self.layers.items()), default=1)
        self.middle = TOP + self.rows * (BOX_H + GAP_Y) / 2
        self.columns: dict[str, float] = {}
        self.picture = Picture()
        self.x = float(LEFT)
        self.highest = 0.0

    def draw(self, title: str, subtitle: str) -> str:
        places = [("stem", self._steps("stem", self.new.stem))]
        for stage in self.new.stages:
            begin = self.x
            for layer in stage.layers:
                place = f"{stage.name}/{layer.name}"
                places.append((place, self._layer(place, layer)))
            if begin < self.x:
                self._panel(begin, self.x, stage.name, stage.layers[-1].width if stage.layers else 0)
            if stage.widener:
                places.append((f"{stage.name}/widener", self._widener()))
        places.append(("head", self._steps("head", self.new.head)))
        self._arrows(places)
        for place, layer in self.layers.items():
            self._skips(place, layer)
        bottom = TOP + self.rows * (BOX_H + GAP_Y) + 34
        self._legend(bottom + 18)
        return self.picture.svg(self.x + LEFT, bottom + 44, title, subtitle)

    def _slots(self, place: str, layer: Layer) -> list[Branch]:
        """The branches of a layer, those that were pruned from it among them, in the order of their names."""
        gone = (
            [b for b in self.old[place].branches if b.name not in {n.name for n in layer.branches}]
            if place in self.old
            else []
        )
        return sorted([*layer.branches, *gone], key=lambda branch: branch.name)

    def _layer(self, place: str, layer: Layer) -> float:
        present = {branch.name for branch in layer.branches}
        slots = self._slots(place, layer)
        grown = self.compares and place not in self.old
        y = self.middle - len(slots) * (BOX_H + GAP_Y) / 2
        for branch in slots:
            pruned = branch.name not in present
            value = None if pruned else self._value(f"{place}/{branch.name}", place)
            self._branch(self.x, y, branch, pruned, grown, value)
            y += BOX_H + GAP_Y
        name = place.split("/")[1]
        colour = GREEN if grown else QUIET
        self.picture.text(
            self.x + BOX_W / 2, self.middle + self.rows * (BOX_H + GAP_Y) / 2 + 14, name, 10, colour, "middle"
        )
        return self._advance(place)

    def _branch(self, x: float, y: float, branch: Branch, pruned: bool, grown: bool, value: float | None) -> None:
        fill, stroke = operation_colour(branch.operation)
        if pruned:
            self.picture.box(x, y, BOX_W, BOX_H, "#ffffff", RED, dashed=True)
            self.picture.text(x + BOX_W / 2, y + 17, branch.operation, 11, RED, "middle", struck=True)
            return
        self.picture.box(x, y, BOX_W, BOX_H, fill, GREEN if grown else stroke, width=2.0 if grown else 1.0)
        self.picture.text(x + 8, y + 17, branch.operation, 11, INK)
        self.picture.text(x + BOX_W - 7, y + 17, str(branch.channels), 9, QUIET, "end")
        if value is not None:
            self.picture.bar(x + 1, y + BOX_H - 4, (BOX_W - 2) * value, 3, stroke)

    def _value(self, block: str, place: str) -> float | None:
        """A block's value as a share of the largest in its stage."""
        if block not in self.values:
            return None
        stage = place.partition("/")[0]
        largest = max((v for name, v in self.values.items() if name.startswith(f"{stage}/")), default=0.0)
        return max(0.0, self.values[block] / largest) if largest > 0 else 0.0

    def _steps(self, place: str, steps: tuple[Step, ...]) -> float:
        height = len(steps) * 20 + 10
        self.picture.box(self.x, self.middle - height / 2, BOX_W, height, "#f6f8fa", LINE)
        for index, step in enumerate(steps):
            self.picture.text(
                self.x + BOX_W / 2, self.middle - height / 2 + 19 + 20 * index, _step_name(step), 10, INK, "middle"
            )
        self.picture.text(self.x + BOX_W / 2, self.middle - height / 2 - 7, place, 10, QUIET, "middle")
        return self._advance(place)

    def _widener(self) -> float:
        width, tall, low = 30.0, 66.0, 40.0
        points = [(0, -tall / 2), (width, -low / 2), (width, low / 2), (0, tall / 2)]
        self.picture.polygon([(self.x + dx, self.middle + dy) for dx, dy in points], "#ddf4ff", "#54aeff")
        self.picture.text(self.x + width / 2, self.middle + tall / 2 + 14, "÷2", 10, QUIET, "middle")
        centre = self.x + width / 2
        self.x += width + GAP_X
        return centre

    def _advance(self, place: str) -> float:
        centre = self.columns[place] = self.x + BOX_W / 2
        self.x += BOX_W + GAP_X
        return centre

    def _panel(self, begin: float, end: float, name: str, width: int) -> None:
        height = self.rows * (BOX_H + GAP_Y) + 46
        self.picture.panel(begin - 13, TOP - 24, end - begin, height)
        self.picture.text(begin - 3, TOP - 9, f"{name}  ·  {width} channels", 10, QUIET)

    def _arrows(self, places: list[tuple[str, float]]) -> None:
        for (before, one), (after, two) in itertools.pairwise(places):
            start = one + (15 if before.endswith("widener") else BOX_W / 2)
            stop = two - (15 if after.endswith("widener") else BOX_W / 2)
            self.picture.arrow(start + 2, self.middle, stop - 2, self.middle, LINE)
            if after.endswith("widener"):
                self.columns[after] = two

    def _skips(self, place: str, layer: Layer) -> None:
        known = self.old.get(place)
        before = set(known.skips or ()) if known else set()
        now = set(layer.skips or ())
        for source in sorted(now | before):
            if source not in self.columns:
                continue
            gone, fresh = source not in now, self.compares and source not in before
            colour = RED if gone else GREEN if fresh else "#8250df"
            start, stop = self.columns[source], self.columns[place]
            height = min(96.0, 18 + 0.085 * (stop - start))
            base = TOP - 30
            self.picture.arc(start, stop, base, height, colour, dashed=gone)

    def _legend(self, y: float) -> None:
        x = float(LEFT)
        entries = [("#8250df", "skip connection")]
        entries += [(RED, "pruned"), (GREEN, "grown")] if self.compares else []
        for colour, text in entries:
            self.picture.bar(x, y - 4, 14, 4, colour)
            self.picture.text(x + 20, y, text, 10, QUIET)
            x += 34 + 7 * len(text)
        if self.values:
            self.picture.text(x, y, "bar: the block's statistic, relative to the largest of its stage", 10, QUIET)


def _step_name(step: Step) -> str:
    match step.op:
        case "conv":
            return f"{step.kernel}x{step.kernel} conv {step.channels}" + (f" /{step.stride}" if step.stride > 1 else "")
        case "pool":
            return f"{step.kernel}x{step.kernel} {step.kind}pool"
        case "dense":
            return f"dense {step.units}" if step.units else "dense"
        case "dropout":
            return f"dropout {step.rate:g}"
        case _:
            return step.op.replace("_", " ")


# ---------------------------------------------------------------------------------------------------------------- micro
def _micro(architecture: MicroArchitecture, title: str, subtitle: str) -> str:
    """The stack of cells as a strip, and below it every cell as a graph, columns by depth."""
    picture = Picture()
    x, used = float(LEFT), list(dict.fromkeys(placement.cell for placement in architecture.network))
    for placement in architecture.network:
        colour = ("#ddf4ff", "#54aeff") if used.index(placement.cell) % 2 == 0 else ("#fff8c5", "#d4a72c")
        picture.box(x, 78, 46, 34, *colour)
        picture.text(x + 23, 93, placement.cell[:8], 8, INK, "middle")
        picture.text(x + 23, 106, str(placement.width), 9, QUIET, "middle")
        x += 52
    right, y = x, 150.0
    for name in used:
        picture.text(LEFT, y, name, 12, INK)
        width, height = _cell(picture, architecture.cells[name], y + 12)
        right, y = max(right, width), y + height + 50
    return picture.svg(right + LEFT, y, title, subtitle)


def _cell(picture: Picture, cell: Cell, top: float) -> tuple[float, float]:
    depth = dict.fromkeys(cell.inputs, 0)
    for node in cell.nodes:
        depth[node.name] = 1 + max(depth[name] for name in node.inputs)
    rows: dict[int, int] = {}
    centre: dict[str, tuple[float, float]] = {}
    labels = {name: f"input {offset}" for name, offset in cell.inputs.items()}
    labels |= {node.name: node.operation + (f" /{node.stride}" if node.stride > 1 else "") for node in cell.nodes}
    for name, column in depth.items():
        row = rows.get(column, 0)
        rows[column] = row + 1
        centre[name] = (LEFT + column * (BOX_W + 40) + BOX_W / 2, top + row * (BOX_H + 14) + BOX_H / 2)
    for node in cell.nodes:
        for name in node.inputs:
            one, two = centre[name], centre[node.name]
            picture.arrow(one[0] + BOX_W / 2, one[1], two[0] - BOX_W / 2 - 2, two[1], LINE)
    for name, (x, y) in centre.items():
        fill, stroke = operation_colour(labels[name].split(" ")[0])
        picture.box(x - BOX_W / 2, y - BOX_H / 2, BOX_W, BOX_H, fill, stroke)
        picture.text(x, y + 4, escape(labels[name], quote=False), 11, INK, "middle")
    return LEFT + (max(depth.values()) + 1) * (BOX_W + 40), max(rows.values()) * (BOX_H + 14)

"""The picture of a micro architecture: the stack of cells as a strip, and below it every distinct cell as a DAG.

A cell is drawn from top to bottom in rows by depth; the order within a row is found by repeated barycentres (Sugiyama's
method), with a dummy place in every row that a long edge crosses, so that edges do not run through blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from amla.exporters.diagram_parts import MARGIN, PILL, TIMES, Drawing, State, label, step_label
from amla.exporters.svg import AMBER, FAINT, GREEN, INK, PANEL, PAPER, QUIET, RED, text_width
from amla.spec.architecture import CellNode, MicroArchitecture, Placement

ROW, COLUMN, DUMMY = 66.0, PILL[0] + 18, 26.0
SWEEPS = 8
LEAST = 640.0
#: Accents of the cells, in the order in which they first stand in the stack.
ACCENTS = ("#2f81d6", "#b07a12", "#7a4fd0", "#1b8a76", "#bf3989", "#6b7682")


class _Place(NamedTuple):
    x: float
    y: float


def draw_cells(drawing: Drawing, new: MicroArchitecture, old: MicroArchitecture | None) -> str:
    """The picture of ``new``, compared with ``old``."""
    picture, drawing.part = drawing.picture, "cell"
    used = list(dict.fromkeys(placement.cell for placement in new.network))
    accents = {name: ACCENTS[place % len(ACCENTS)] for place, name in enumerate(used)}
    figures = [_Figure(drawing, name, new, old) for name in used]
    width = max(LEAST, drawing.least_width(), *(figure.width + 2 * MARGIN + 32 for figure in figures))
    for figure in figures:
        figure.count()
    y = drawing.heading(width - MARGIN)
    y = _stack(drawing, new, old, accents, y, width)
    for name, figure in zip(used, figures, strict=True):
        picture.rect((MARGIN, y), (width - 2 * MARGIN, figure.height + 58), PANEL, "#d8dee4", radius=12, back=True)
        picture.rect((MARGIN + 14, y + 12), (10, 10), accents[name], radius=3)
        picture.text((MARGIN + 32, y + 21), name, 13, INK, bold=True)
        if old is not None and name not in old.cells:
            picture.text((MARGIN + 40 + text_width(name, 13) * 1.08, y + 21), "new", 11, GREEN, bold=True)
        figure.draw((width - figure.width) / 2, y + 40)
        y += figure.height + 58 + 16
    bottom = drawing.legend(y + 14, width - MARGIN)
    return picture.svg(width, bottom + 6, f"{drawing.title}: {drawing.subtitle}")


def _stack(
    drawing: Drawing,
    new: MicroArchitecture,
    old: MicroArchitecture | None,
    accents: Mapping[str, str],
    y: float,
    width: float,
) -> float:
    """Stem, runs of equal cells and head in one line that wraps; returns where it ends."""
    classes = list(drawing.shapes.values())[-1][0]
    before = {placement.name: placement.cell for placement in old.network} if old else None
    entries: list[tuple[str, str, str]] = [(step_label(step, classes), "", "#ccd3db") for step in new.stem]
    for _, run in groupby(new.network, key=lambda p: (p.cell, p.width, _placement_state(p, before))):
        group = list(run)
        first = group[0]
        state = _placement_state(first, before)
        times = f"{len(group)} {TIMES} " if len(group) > 1 else ""
        edge = {"grown": GREEN, "changed": AMBER}.get(state, "#ccd3db")
        entries.append((f"{times}{first.cell}, {first.width}", accents[first.cell], edge))
    entries += [(step_label(step, classes), "", "#ccd3db") for step in new.head]
    x, gap = MARGIN, 20.0
    for index, (words, accent, edge) in enumerate(entries):
        wide = text_width(words, 12) + 22 + (14 if accent else 0)
        if index and x + gap + wide > width - MARGIN:
            x, y = MARGIN, y + 36
        elif index:
            drawing.picture.line((x + 3, y + 13), (x + gap - 3, y + 13), FAINT, arrow=True)
            x += gap
        drawing.picture.rect((x, y), (wide, 26), PAPER, edge, radius=13, width=1.8 if edge in (GREEN, AMBER) else 1.0)
        if accent:
            drawing.picture.rect((x + 10, y + 8), (10, 10), accent, radius=3)
        drawing.picture.text((x + (24 if accent else 11), y + 17), words, 12, INK)
        x += wide
    gone = [name for name in before or {} if name not in {placement.name for placement in new.network}]
    if gone:
        drawing.picture.text((MARGIN, y + 46), "removed: " + ", ".join(gone), 12, RED)
        y += 22
    return y + 26 + 22


def _placement_state(placement: Placement, before: Mapping[str, str] | None) -> State:
    if before is None or before.get(placement.name) == placement.cell:
        return "kept"
    return "changed" if placement.name in before else "grown"


class _Figure:
    """One cell: its nodes and those that only the parent's cell of that name has, laid out."""

    def __init__(self, drawing: Drawing, name: str, new: MicroArchitecture, old: MicroArchitecture | None) -> None:
        self.drawing = drawing
        self.cell = new.cells[name]
        self.old = old.cells.get(name) if old else None
        self.compared = old is not None
        self.places = [placement.name for placement in new.network if placement.cell == name]
        before = self.old.nodes if self.old else ()
        inputs = self.cell.inputs | (self.old.inputs if self.old else {})
        now = {node.name for node in self.cell.nodes} | set(inputs)
        self.gone = {node.name for node in before if node.name not in now}
        self.inputs = dict(inputs)
        self.nodes = _ordered([*self.cell.nodes, *(node for node in before if node.name in self.gone)], set(inputs))
        self.rows = _layers(self.inputs, self.nodes)
        self.centre = _centres(self.rows, {node.name: node.inputs for node in self.nodes})
        self.width = max((place.x for name, place in self.centre.items()), default=0.0) + PILL[0] / 2
        self.height = ROW * (len(self.rows) - 1) + PILL[1]

    def state(self, node: CellNode) -> State:
        if node.name in self.gone:
            return "pruned"
        if not self.compared:
            return "kept"
        before = {other.name: other for other in self.old.nodes} if self.old else {}
        if node.name not in before:
            return "grown"
        other = before[node.name]
        same = (other.operation, other.inputs, other.stride) == (node.operation, node.inputs, node.stride)
        return "kept" if same else "changed"

    def count(self) -> None:
        for node in self.nodes:
            self.drawing.count(self.state(node))

    def value(self, node: CellNode) -> float | None:
        """The statistic of a node, its mean over the places where the cell stands."""
        state = self.state(node)
        found = [self.drawing.value(f"{place}/{node.name}", state) for place in self.places]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None

    def draw(self, left: float, top: float) -> None:
        values = {node.name: self.value(node) for node in self.nodes}
        largest = max((value for value in values.values() if value is not None), default=0.0)
        states = {node.name: self.state(node) for node in self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(node.inputs):
                gone = states[node.name] == "pruned" or states.get(source) == "pruned"
                self._edge(left, top, source, node.name, RED if gone else FAINT, gone)
        for name, offset in self.inputs.items():
            x, y = left + self.centre[name].x, top + self.centre[name].y
            self.drawing.picture.rect((x - PILL[0] / 2, y), PILL, PAPER, "#c3cbd4", radius=15)
            words = "previous cell" if offset == 0 else f"{-offset + 1} cells back"
            self.drawing.picture.text((x, y + 19), words, 12, QUIET, anchor="middle")
        for node in self.nodes:
            place, value = self.centre[node.name], values[node.name]
            share = None if value is None else value / largest if largest > 0 else 0.0
            words = f"{node.name}: {label(node.operation)}" + (f", stride {node.stride}" if node.stride > 1 else "")
            words += f"\n{self.drawing.statistic.replace('_', ' ')} {value:.4g}" if value is not None else ""
            at = (left + place.x - PILL[0] / 2, top + place.y)
            self.drawing.pill(at, node.operation, None, states[node.name], share=share, tip=words)
            if node.stride > 1:
                self.drawing.picture.text(
                    (at[0] + PILL[0] - 8, at[1] + 19), f"/{node.stride}", 10.5, QUIET, anchor="end"
                )
        last = self.cell.nodes[-1].name
        x, y = left + self.centre[last].x, top + self.centre[last].y + PILL[1]
        self.drawing.picture.line((x, y + 1), (x, y + 15), FAINT, width=1.3, arrow=True)

    def _edge(self, left: float, top: float, source: str, target: str, colour: str, gone: bool) -> None:
        """Through the dummy places of the rows that the edge crosses."""
        stops = [self.centre[source], *self._dummies(source, target), self.centre[target]]
        x, y = left + stops[0].x, top + stops[0].y + PILL[1]
        d = f"M{x:.1f} {y:.1f}"
        for number, stop in enumerate(stops[1:], 1):
            last = number == len(stops) - 1
            nx, ny = left + stop.x, top + stop.y + (-2.0 if last else 0.0)
            bend = (ny - y) / 2
            d += f"C{x:.1f} {y + bend:.1f} {nx:.1f} {ny - bend:.1f} {nx:.1f} {ny:.1f}"
            if not last:
                d += f"L{nx:.1f} {ny + PILL[1]:.1f}"
                ny += PILL[1]
            x, y = nx, ny
        self.drawing.picture.path(d, colour, width=1.3, dash="4 3" if gone else "", arrow=True)

    def _dummies(self, source: str, target: str) -> list[_Place]:
        keys = (_dummy(source, target, row) for row in range(len(self.rows)))
        return [self.centre[key] for key in keys if key in self.centre]


def _dummy(source: str, target: str, row: int) -> str:
    return f"{source} > {target} @ {row}"


def _ordered(nodes: Sequence[CellNode], known: set[str]) -> list[CellNode]:
    """Nodes in an order in which their inputs come first; a node whose inputs the other cell lacks comes as it may."""
    waiting, found, seen = list(nodes), [], set(known)
    names = {node.name for node in nodes} | known
    while waiting:
        ready = next((n for n in waiting if all(i in seen or i not in names for i in n.inputs)), waiting[0])
        waiting.remove(ready)
        found.append(ready.model_copy(update={"inputs": tuple(i for i in ready.inputs if i in seen)}))
        seen.add(ready.name)
    return found


def _layers(inputs: Mapping[str, int], nodes: Sequence[CellNode]) -> list[list[str]]:
    """Names by row (the longest way from an input), with the dummies of edges that cross a row."""
    depth = dict.fromkeys(inputs, 0)
    for node in nodes:
        depth[node.name] = 1 + max((depth[name] for name in node.inputs), default=0)
    rows: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for name, row in depth.items():
        rows[row].append(name)
    for node in nodes:
        for source in dict.fromkeys(node.inputs):
            for row in range(depth[source] + 1, depth[node.name]):
                rows[row].append(_dummy(source, node.name, row))
    return rows


def _centres(rows: list[list[str]], inputs: Mapping[str, Sequence[str]]) -> dict[str, _Place]:
    """Where everything stands: rows are ordered by the mean place of their neighbours, up and down, several times."""
    links: list[tuple[str, str]] = []
    row_of = {name: index for index, row in enumerate(rows) for name in row}
    for target, sources in inputs.items():
        for source in dict.fromkeys(sources):
            chain = [_dummy(source, target, row) for row in range(row_of[source] + 1, row_of[target])]
            links += zip([source, *chain], [*chain, target], strict=True)
    above: dict[str, list[str]] = {name: [] for name in row_of}
    below: dict[str, list[str]] = {name: [] for name in row_of}
    for upper, lower in links:
        above[lower].append(upper)
        below[upper].append(lower)
    places = _spread(rows)
    for sweep in range(SWEEPS):
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            means = {
                name: sum(places[other] for other in near[name]) / len(near[name]) if near[name] else places[name]
                for name in row
            }
            row.sort(key=lambda name: means[name])
        places = _spread(rows)
    return {name: _Place(places[name], row_of[name] * ROW) for name in row_of}


def _spread(rows: Sequence[Sequence[str]]) -> dict[str, float]:
    """The horizontal centre of everything, each row centred on the widest."""
    widths = [[DUMMY if ">" in name else COLUMN for name in row] for row in rows]
    widest = max(sum(row) for row in widths) if widths else 0.0
    places: dict[str, float] = {}
    for row, sizes in zip(rows, widths, strict=True):
        x = (widest - sum(sizes)) / 2 - (COLUMN - PILL[0]) / 2
        for name, size in zip(row, sizes, strict=True):
            places[name] = x + size / 2
            x += size
    return places

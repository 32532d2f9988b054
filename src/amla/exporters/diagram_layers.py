"""The picture of a macro architecture: from top to bottom stem, stages of layers, head; skips as arcs at the right.

A layer is a card with one column for each name that a branch has anywhere in the network, so that the same kind of
branch stands below itself and a pruned one leaves its place empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from amla.exporters.diagram_parts import MARGIN, PILL, TIMES, Drawing, State, chips_width, label, size_label, step_label
from amla.exporters.svg import FAINT, GREEN, INK, PANEL, PAPER, QUIET, RED, VIOLET
from amla.spec.architecture import STEM, Branch, Layer, MacroArchitecture, Stage, Widener

CARD, GAP, PAD = PILL[1] + 12, 14.0, 10.0
LABEL = 92.0
STEPS, HEADER, FUNNEL = 44.0, 30.0, 38.0
WIDENER = 400.0  # room for the words in it
MAX_COLUMNS = 8


class _Row(NamedTuple):
    """A layer to be drawn: of the network (with the parent's, where it had it), or of the parent only."""

    name: str
    layer: Layer | None
    before: Layer | None


class _Painter:
    def __init__(self, drawing: Drawing, new: MacroArchitecture, old: MacroArchitecture | None) -> None:
        self.drawing, self.picture = drawing, drawing.picture
        self.new = new
        self.old = {stage.name: stage for stage in old.stages} if old else {}
        self.stages = [(stage, _rows(stage, self.old.get(stage.name))) for stage in new.stages]
        self.columns = self._columns()
        self.classes = list(drawing.shapes.values())[-1][0]
        branches = max(self.widest, 2) * (PILL[0] + 8) - 8
        self.steps = {
            name: [step_label(step, self.classes) for step in steps] or ["(nothing)"]
            for name, steps in (("stem", new.stem), ("head", new.head))
        }
        self.left = MARGIN + PAD
        self.cards = self.left + LABEL
        self.wide = (
            max(branches, WIDENER * any(s.widener for s in new.stages), *map(chips_width, self.steps.values()))
            + 2 * PAD
        )
        self.right = self.cards + self.wide
        self.middle = self.cards + self.wide / 2
        self.ports: dict[str, float] = {}
        self.gutter = 0.0

    def _columns(self) -> dict[str, int]:
        """Branch name -> column; empty where there are so many names that layers are packed instead."""
        names: set[str] = set()
        widest = 0
        for _, rows in self.stages:
            for row in rows:
                shown = _branches(row)
                widest = max(widest, len(shown))
                names.update(branch.name for branch in shown)
        self.widest = widest if len(names) > MAX_COLUMNS else len(names)
        ordered = sorted(names, key=lambda name: (len(name), name))
        return {name: place for place, name in enumerate(ordered)} if len(names) <= MAX_COLUMNS else {}

    # ------------------------------------------------------------------------------------------------------------- drawing
    def paint(self) -> str:
        drawing = self.drawing
        self._count()
        self.gutter = self._gutter()
        width = max(self.right + PAD + self.gutter + MARGIN, drawing.least_width())
        y = drawing.heading(width - MARGIN)
        y = self._steps(y, STEM, 0.0)
        self.ports[STEM] = y - STEPS / 2
        for stage, rows in self.stages:
            y = self._stage(y, stage, rows)
        y = self._steps(y, "head", GAP)
        skips = self._skips()
        bottom = drawing.legend(y + 30, width - MARGIN, skips=skips)
        return self.picture.svg(width, bottom + 6, f"{drawing.title}: {drawing.subtitle}")

    def _steps(self, y: float, name: str, gap: float) -> float:
        """The stem or the head: a card of chips."""
        if gap:
            self._flow(y, gap)
        y += gap
        self.picture.rect((self.cards, y), (self.wide, STEPS), PANEL, "#d8dee4", radius=10)
        self.picture.text((self.left, y + STEPS / 2 + 4), name, 12.5, INK, bold=True)
        self.drawing.chips(self.middle, y + (STEPS - 26) / 2, self.steps[name])
        return y + STEPS

    def _stage(self, y: float, stage: Stage, rows: Sequence[_Row]) -> float:
        if rows:
            self._flow(y, GAP)
            top = y = y + GAP
            height = HEADER + (CARD + GAP) * len(rows) - GAP + PAD
            size = (self.right + PAD - MARGIN, height)
            self.picture.rect((MARGIN, top), size, PANEL, "#d8dee4", radius=12, back=True)
            self.picture.text((self.left, top + 20), stage.name, 12.5, INK, bold=True)
            place = f"{stage.name}/{(stage.layers or (rows[-1].layer or rows[-1].before,))[-1].name}"  # type: ignore[union-attr]
            shape = self.drawing.shapes.get(f"{place}/out")
            if shape:
                self.picture.text((self.cards, top + 20), size_label(shape), 11.5, QUIET)
            y += HEADER
            for index, row in enumerate(rows):
                if index:
                    self._flow(y, GAP)
                    y += GAP
                self._layer(y, stage.name, row)
                y += CARD
            y += PAD
        return self._widener(y, stage.name, stage.widener) if stage.widener else y

    def _layer(self, y: float, stage: str, row: _Row) -> None:
        place = f"{stage}/{row.name}"
        state: State = self._state(row)
        self.ports[place] = y + CARD / 2
        edge = {"grown": GREEN, "pruned": RED}.get(state, "#d8dee4")
        dash = "5 4" if state == "pruned" else ""
        self.picture.rect((self.cards, y), (self.wide, CARD), PAPER, edge, radius=9, dash=dash)
        colour = {"grown": GREEN, "pruned": RED}.get(state, INK)
        self.picture.text((self.left, y + CARD / 2 + 1), row.name, 12.5, colour, struck=state == "pruned")
        words = {"grown": "new", "pruned": "removed"}.get(state) or f"{_width(row)} channels"
        self.picture.text((self.left, y + CARD / 2 + 15), words, 10.5, colour if state != "kept" else FAINT)
        largest = self._largest(stage)
        for index, branch in enumerate(_branches(row)):
            column = self.columns.get(branch.name, index)
            at = (self.cards + PAD + column * (PILL[0] + 8), y + (CARD - PILL[1]) / 2)
            self._branch(at, f"{place}/{branch.name}", row, branch, largest)

    def _branch(self, at: tuple[float, float], block: str, row: _Row, branch: Branch, largest: float) -> None:
        state = self._branch_state(row, branch)
        value = self.drawing.value(block, state)
        tip = f"{block}: {label(branch.operation)}, {branch.channels} channels"
        if value is not None:
            tip += f"\n{self.drawing.statistic.replace('_', ' ')} {value:.4g}"
        share = None if value is None else value / largest if largest > 0 else 0.0
        was = next((b.operation for b in row.before.branches if b.name == branch.name), "") if row.before else ""
        self.drawing.pill(
            at,
            branch.operation,
            branch.channels,
            state,
            share=share,
            tip=tip,
            was=label(was) if state == "changed" else "",
        )

    def _widener(self, y: float, stage: str, widener: Widener) -> float:
        """A funnel: what goes in is wide in pixels, what comes out is narrow."""
        place = f"{stage}/widener"
        self._flow(y, GAP)
        y += GAP
        height, inset = FUNNEL, 26.0
        left, right = self.cards, self.right
        d = f"M{left} {y}L{right} {y}L{right - inset} {y + height}L{left + inset} {y + height}Z"
        self.picture.path(d, "#c9d1da", fill="#edf1f5", width=1.0)
        self.picture.text((self.left, y + 23), "widener", 12.5, INK)
        pool = f"2{TIMES}2 max pool"
        inside = f"{pool}  ∥  3{TIMES}3 conv /2" if widener.kind == "pool_conv" else f"concat, {pool}"
        shape = self.drawing.shapes.get(f"{place}/out") or self.drawing.shapes.get(f"{place}/pool")
        words = f"{inside}     →     {size_label(shape)}" if shape else inside
        self.picture.text((self.middle, y + 23), words, 12, QUIET, anchor="middle")
        self.ports[place] = y + height / 2
        return y + height

    def _flow(self, y: float, length: float) -> None:
        self.picture.line((self.middle, y + 1.5), (self.middle, y + length - 1.5), FAINT, width=1.3, arrow=True)

    # --------------------------------------------------------------------------------------------------------------- skips
    def _gutter(self) -> float:
        """How far the longest arc reaches to the right."""
        at, y = {STEM: 0.0}, STEPS / 2
        for stage, rows in self.stages:
            y += (GAP + HEADER) * bool(rows)
            for row in rows:
                at[f"{stage.name}/{row.name}"] = y + CARD / 2
                y += CARD + GAP
            y += PAD
            at[f"{stage.name}/widener"] = y + FUNNEL / 2
            y += (FUNNEL + GAP) * bool(stage.widener)
        spans = [at[target] - at.get(source, 0.0) for target, source, _ in self._connections()]
        return _reach(max(spans)) + 16 if spans else 0.0

    def _connections(self) -> list[tuple[str, str, State]]:
        """(layer, what it reads, state) of every skip of either network."""
        found: list[tuple[str, str, State]] = []
        for stage, rows in self.stages:
            for row in rows:
                now = row.layer.skips or () if row.layer else ()
                before = row.before.skips or () if row.before else ()
                for source in dict.fromkeys([*now, *before]):
                    state: State = "kept" if source in now else "pruned"
                    if self.drawing.compares and state == "kept" and source not in before:
                        state = "grown"
                    found.append((f"{stage.name}/{row.name}", source, state))
        return found

    def _skips(self) -> bool:
        drawn = False
        for target, source, state in self._connections():
            if source not in self.ports or target not in self.ports:
                continue
            drawn = True
            start, end = self.ports[source] + 5, self.ports[target] - 5
            reach = _reach(end - start)
            edge = self.right
            inset = 26 * (source.endswith("/widener"))
            block = f"{target}/skip/{source}"
            found = self.drawing.parent_statistics if state == "pruned" else self.drawing.statistics
            scalar = found.get(block, {}).get("scalar")
            weight = 1.3 if scalar is None else 0.8 + min(2.2, 1.6 * abs(scalar))
            colour = {"grown": GREEN, "pruned": RED}.get(state, VIOLET)
            out = edge - inset * 0.5
            d = (
                f"M{out:.1f} {start:.1f}C{edge + reach * 1.33:.1f} {start:.1f} {edge + reach * 1.33:.1f} {end:.1f} "
                f"{edge + 2:.1f} {end:.1f}"
            )
            tip = f"{target} reads {source}" + (f", times {scalar:.3g}" if scalar is not None else "")
            self.picture.path(
                d,
                colour,
                width=weight,
                dash="4 3" if state == "pruned" else "",
                opacity=0.62 if state == "kept" else 0.9,
                arrow=True,
                tip=tip,
            )
        return drawn

    # -------------------------------------------------------------------------------------------------------------- states
    def _state(self, row: _Row) -> State:
        if row.layer is None:
            return "pruned"
        return "grown" if self.drawing.compares and row.before is None else "kept"

    def _branch_state(self, row: _Row, branch: Branch) -> State:
        now = {b.name: b.operation for b in row.layer.branches} if row.layer else {}
        before = {b.name: b.operation for b in row.before.branches} if row.before else {}
        if branch.name not in now:
            return "pruned"
        if not self.drawing.compares or before.get(branch.name) == branch.operation:
            return "kept"
        return "changed" if branch.name in before else "grown"

    def _count(self) -> None:
        """Branches by what became of them."""
        for _, rows in self.stages:
            for row in rows:
                for branch in _branches(row):
                    self.drawing.count(self._branch_state(row, branch))

    def _largest(self, stage: str) -> float:
        """The largest value of the statistic in a stage, pruned blocks counted in."""
        rows = next(rows for found, rows in self.stages if found.name == stage)
        values = [
            self.drawing.value(f"{stage}/{row.name}/{branch.name}", self._branch_state(row, branch))
            for row in rows
            for branch in _branches(row)
        ]
        return max((value for value in values if value is not None), default=0.0)


def draw_layers(drawing: Drawing, new: MacroArchitecture, old: MacroArchitecture | None) -> str:
    """The picture of ``new``, compared with ``old``."""
    return _Painter(drawing, new, old).paint()


def _rows(stage: Stage, old: Stage | None) -> list[_Row]:
    """The layers of a stage, those that only the parent has behind the layer that they followed."""
    before = {layer.name: layer for layer in old.layers} if old else {}
    now = {layer.name for layer in stage.layers}
    rows = [_Row(layer.name, layer, before.get(layer.name)) for layer in stage.layers]
    after = -1
    for layer in before.values():
        if layer.name in now:
            after = next(place for place, row in enumerate(rows) if row.name == layer.name)
        else:
            after += 1
            rows.insert(after, _Row(layer.name, None, layer))
    return rows


def _branches(row: _Row) -> list[Branch]:
    """The branches of a layer in both networks, in the order of their names."""
    now = row.layer.branches if row.layer else ()
    before = row.before.branches if row.before else ()
    names = {branch.name for branch in now}
    return sorted(
        [*now, *(branch for branch in before if branch.name not in names)], key=lambda b: (len(b.name), b.name)
    )


def _width(row: _Row) -> int:
    layer = row.layer or row.before
    return layer.width if layer else 0


def _reach(span: float) -> float:
    """How far to the right an arc over ``span`` pixels bulges."""
    return min(150.0, 14 + 0.24 * span)

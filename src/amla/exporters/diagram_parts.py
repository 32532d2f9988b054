"""What the pictures of both kinds of architecture share: heading, pills, chips, legend, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from amla.exporters.svg import AMBER, FAINT, GREEN, INK, LINE, PAPER, QUIET, RED, VIOLET, Picture, Point, text_width
from amla.spec.architecture import Step
from amla.spec.graph import Shape
from amla.spec.operations import parse_operation

Statistics = Mapping[str, Mapping[str, float]]
State = Literal["kept", "grown", "pruned", "changed"]

TIMES = "\N{MULTIPLICATION SIGN}"
MARGIN = 24.0
CHIP_GAP = 20.0
PILL: Point = (106.0, 30.0)


class Family(NamedTuple):
    """A family of operations: what the legend calls it, and its colours (fill, edge, bar)."""

    name: str
    fill: str
    edge: str
    bar: str


_CONV = Family("convolution", "#ddf0ff", "#8cc4f5", "#2f81d6")
_SEP = Family("separable", "#d5f5ee", "#7fcfbd", "#1b8a76")
_DIL = Family("dilated", "#efe7ff", "#c0a6f2", "#7a4fd0")
_POOL = Family("pooling", "#fdf0d0", "#e3bd68", "#b07a12")
_PLAIN = Family("identity, join", "#eef1f4", "#c3cbd4", "#6b7682")
_FAMILIES = (_CONV, _SEP, _DIL, _POOL, _PLAIN)
_FAMILY = {"conv": _CONV, "sep": _SEP, "dil": _DIL, "maxpool": _POOL, "avgpool": _POOL}

EDGE: dict[State, str] = {"grown": GREEN, "pruned": RED, "changed": AMBER, "kept": LINE}


@dataclass
class Drawing:
    """What is drawn and how: shapes by node, statistics, whether two networks are compared, and the picture so far."""

    shapes: Mapping[str, Shape]
    statistics: Statistics
    parent_statistics: Statistics
    statistic: str
    compares: bool
    title: str
    subtitle: str
    part: str = "stage"
    picture: Picture = field(default_factory=Picture)
    families: dict[str, Family] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        """Note that something was pruned or has grown, for the heading."""
        self.counts[what] = self.counts.get(what, 0) + 1

    def value(self, block: str, state: State = "kept") -> float | None:
        """The statistic of a block: of the parent's where it was pruned."""
        found = self.parent_statistics if state == "pruned" else self.statistics
        return found.get(block, {}).get(self.statistic)

    # ---------------------------------------------------------------------------------------------------------- elements
    def heading(self, right: float) -> float:
        """Title, facts, and at the right what changed in numbers. Returns where the picture itself begins."""
        y = MARGIN + 12
        if self.title:
            self.picture.text((MARGIN, y), self.title, 17, bold=True)
            y += 20
        self.picture.text((MARGIN, y), self.subtitle, 12, QUIET)
        x = right
        for what, colour in (("pruned", RED), ("grown", GREEN), ("changed", AMBER)):
            if self.counts.get(what):
                words = f"{self.counts[what]} {'block' if self.counts[what] == 1 else 'blocks'} {what}"
                wide = text_width(words, 12) + 18
                x -= wide
                self.picture.rect((x, MARGIN - 4), (wide, 22), PAPER, colour, radius=11)
                self.picture.text((x + wide / 2, MARGIN + 11), words, 12, colour, anchor="middle", bold=True)
                x -= 8
        return y + 22

    def least_width(self) -> float:
        """How wide a picture must be for its heading."""
        title = max(text_width(self.title, 17) * 1.08 + 300 * self.compares, text_width(self.subtitle, 12))
        return title + 2 * MARGIN

    def pill(
        self,
        at: Point,
        operation: str,
        channels: int | None,
        state: State,
        *,
        share: float | None = None,
        tip: str = "",
        was: str = "",
    ) -> None:
        """A block: its operation, the channels that it gives, and a bar that is ``share`` of it long."""
        family = family_of(operation)
        self.families[family.name] = family
        picture, (width, height) = self.picture, PILL
        x, y = at
        gone = state == "pruned"
        picture.rect(
            at,
            PILL,
            PAPER if gone else family.fill,
            family.edge if state == "kept" else EDGE[state],
            radius=7,
            width=1.0 if state == "kept" else 1.8,
            dash="4 3" if gone else "",
            tip=tip + (f"\nwas {was}" if was else ""),
        )
        colour = RED if gone else INK
        joins = operation in ("add", "concat")
        place, anchor = (x + width / 2, "middle") if joins else (x + 9, "start")
        picture.text((place, y + 19), label(operation), 12.5, colour, anchor=anchor, struck=gone)
        if channels is not None:
            picture.text((x + width - 8, y + 19), str(channels), 10.5, RED if gone else QUIET, anchor="end")
        if share is not None:
            length = (width - 14) * min(1.0, max(0.0, share))
            picture.rect((x + 7, y + height - 6), (width - 14, 2.6), "#00000014", radius=1.3)
            if length > 0:
                picture.rect((x + 7, y + height - 6), (length, 2.6), RED if gone else family.bar, radius=1.3)

    def chips(self, centre: float, y: float, words: Sequence[str]) -> None:
        """Steps from left to right, joined by small arrows, around ``centre``."""
        widths, gap = [text_width(word, 12) + 22 for word in words], CHIP_GAP
        x = centre - chips_width(words) / 2
        for index, (word, width) in enumerate(zip(words, widths, strict=True)):
            self.picture.rect((x, y), (width, 26), PAPER, "#ccd3db", radius=13)
            self.picture.text((x + width / 2, y + 17), word, 12, INK, anchor="middle")
            x += width
            if index < len(words) - 1:
                self.picture.line((x + 3, y + 13), (x + gap - 3, y + 13), FAINT, arrow=True, back=False)
                x += gap

    def legend(self, y: float, right: float, *, skips: bool = False) -> float:
        """What colours and lines mean, in as many rows as it takes; returns where it ends."""
        picture, x = self.picture, MARGIN
        entries: list[tuple[str, str, str]] = []
        if self.compares:
            entries += [("edge", GREEN, "grown"), ("dashed", RED, "pruned")]
            entries += [("edge", AMBER, "changed")] if self.counts.get("changed") else []
        entries += [("fill", family.name, family.name) for family in _FAMILIES if family.name in self.families]
        entries += [("line", VIOLET, "skip")] if skips else []
        if self.statistic:
            entries += [("bar", FAINT, f"{self.statistic.replace('_', ' ')}, against the largest of its {self.part}")]
        for kind, colour, words in entries:
            wide = 26 + text_width(words, 11.5) + 18
            if x + wide > right and x > MARGIN:
                x, y = MARGIN, y + 20
            match kind:
                case "fill":
                    family = self.families[colour]
                    picture.rect((x, y - 9), (18, 12), family.fill, family.edge, radius=4)
                case "edge" | "dashed":
                    dash = "4 3" if kind == "dashed" else ""
                    picture.rect((x, y - 9), (18, 12), PAPER, colour, radius=4, width=1.8, dash=dash)
                case _:
                    picture.rect((x, y - 4), (18, 2.6), colour, radius=1.3)
            picture.text((x + 25, y + 1), words, 11.5, QUIET)
            x += wide
        return y + 14


def chips_width(words: Sequence[str]) -> float:
    """How wide a row of chips is."""
    return sum(text_width(word, 12) + 22 for word in words) + CHIP_GAP * max(0, len(words) - 1)


def family_of(operation: str) -> Family:
    """The family of an operation or a join."""
    return _PLAIN if operation in ("add", "concat") else _FAMILY.get(parse_operation(operation).kind, _PLAIN)


def label(operation: str) -> str:
    """An operation as a person reads it: ``3x3 sep``, ``3x3 max``."""
    if operation in ("add", "concat"):
        return operation
    what = parse_operation(operation)
    if what.kind in ("identity", "zero"):
        return what.kind
    kind = {"conv": "", "dil": f" dil {what.dilation}", "maxpool": " max", "avgpool": " avg"}.get(
        what.kind, f" {what.kind}"
    )
    return f"{what.kernel}{TIMES}{what.kernel}{kind}"


def step_label(step: Step, num_classes: int) -> str:
    """A step of the stem or the head in a few words."""
    match step.op:
        case "conv":
            return f"{step.kernel}{TIMES}{step.kernel} conv, {step.channels}" + (
                f" /{step.stride}" if step.stride > 1 else ""
            )
        case "pool":
            return f"{step.kernel}{TIMES}{step.kernel} {step.kind} pool" + (
                f" /{step.stride}" if step.stride > 1 else ""
            )
        case "dense":
            return f"dense, {step.units or num_classes}"
        case "dropout":
            return f"dropout {step.rate:g}"
        case "lrn":
            return "response norm"
        case "cutout":
            return f"cutout {step.size}"
        case _:
            return step.op.replace("_", " ")


def size_label(shape: Shape) -> str:
    """``32 x 32  ·  128 channels``, or ``10 numbers``."""
    return f"{shape[1]} {TIMES} {shape[2]}  ·  {shape[0]} channels" if len(shape) == 3 else f"{shape[0]} numbers"

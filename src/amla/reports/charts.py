"""Charts as SVG text: learning curves, and what accuracy cost. Colours that depend on the page are its CSS variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from amla.exporters.svg import Picture, Point, text_width

WIDTH, HEIGHT = 620.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 26.0, 30.0, 44.0
QUIET, GRID, INK, PAPER = "var(--quiet)", "var(--line)", "var(--ink)", "var(--card)"
#: From the first trial to the last; the final one has a colour of its own.
_RAMP = ((0x8D, 0xA9, 0xF0), (0x4B, 0x7B, 0xE5), (0x6A, 0x4F, 0xC9), (0xA0, 0x3F, 0xA6), (0xD6, 0x45, 0x7B))
FINAL = "#1a9c52"


class Line(NamedTuple):
    """A learning curve: a short name that stands at its end, a colour, and its points."""

    name: str
    colour: str
    points: Sequence[Point]
    strong: bool = False


class Dot(NamedTuple):
    """A place with a short name beside it; ``tip`` shows where the pointer rests."""

    name: str
    colour: str
    at: Point
    tip: str = ""
    strong: bool = False


def ramp(share: float) -> str:
    """A colour for a place between the first (0) and the last (1)."""
    place = min(1.0, max(0.0, share)) * (len(_RAMP) - 1)
    low = min(int(place), len(_RAMP) - 2)
    parts = (round(a + (b - a) * (place - low)) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True))
    return "#" + "".join(f"{part:02x}" for part in parts)


def line_chart(title: str, x_name: str, lines: Sequence[Line], *, percent: bool = False) -> str:
    """Lines over linear axes; what is not finite is left out. Empty text where there is nothing to draw."""
    kept = [line._replace(points=_finite(line.points)) for line in lines]
    kept = [line for line in kept if line.points]
    if not kept:
        return ""
    axes = _Axes([point for line in kept for point in line.points], percent=percent)
    picture = Picture()
    axes.draw(picture, title, x_name)
    for line in kept:
        points = [axes.place(point) for point in line.points]
        if len(points) > 1:
            picture.polyline(points, line.colour, width=2.2 if line.strong else 1.6)
        else:
            picture.circle(points[0], 3, line.colour)
    for line in kept:
        x, y = axes.place(line.points[-1])
        picture.text((x + 4, y + 4), line.name, 11, line.colour, bold=True)
    return picture.svg(WIDTH, HEIGHT, title, None)


def dot_chart(title: str, x_name: str, dots: Sequence[Dot], *, percent: bool = False, least: bool = True) -> str:
    """Dots, and (``least``) the line of those that no other dot beats at the same or a smaller x. The x axis is
    logarithmic where it spans more than a factor of 30. Empty text where there is nothing to draw."""
    kept = [dot for dot in dots if _finite([dot.at])]
    if not kept:
        return ""
    axes = _Axes([dot.at for dot in kept], percent=percent, log=_wide([dot.at[0] for dot in kept]))
    picture = Picture()
    axes.draw(picture, title, x_name)
    front = frontier([dot.at for dot in kept]) if least else []
    if len(front) > 1:
        steps = [axes.place(front[0])]
        for point in front[1:]:
            x, y = axes.place(point)
            steps += [(x, steps[-1][1]), (x, y)]
        picture.polyline(steps, QUIET, width=1.2, dash="3 3", opacity=0.8)
    for dot in kept:
        x, y = axes.place(dot.at)
        picture.circle((x, y), 6 if dot.strong else 4.5, dot.colour, stroke=PAPER, tip=dot.tip)
        picture.text((x + 8, y - 6), dot.name, 11, dot.colour, bold=dot.strong)
    return picture.svg(WIDTH, HEIGHT, title, None)


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points (cost, value) that no other point beats with a cost no higher, by rising cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front


class _Axes:
    """Where numbers stand on the page, with round numbers along both axes."""

    def __init__(self, points: Sequence[Point], *, percent: bool, log: bool = False) -> None:
        self.percent, self.log = percent, log
        self.scale: Callable[[float], float] = math.log10 if log else float
        self.x = _margin([self.scale(x) for x, _ in points])
        self.y = _margin([y for _, y in points])
        if percent:
            self.y = (max(self.y[0], -2.0), min(self.y[1], 103.0))

    def place(self, point: Point) -> Point:
        across = (self.scale(point[0]) - self.x[0]) / (self.x[1] - self.x[0])
        up = (point[1] - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def draw(self, picture: Picture, title: str, x_name: str) -> None:
        picture.text((LEFT, 16), title, 13, INK, bold=True)
        for value in ticks(*self.y):
            y = HEIGHT - BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - TOP - BOTTOM)
            picture.line((LEFT, y), (WIDTH - RIGHT, y), GRID)
            picture.text((LEFT - 8, y + 4), short(value) + " %" * self.percent, 11, QUIET, anchor="end")
        last = -math.inf
        for value in _decades(*self.x) if self.log else ticks(*self.x):
            x = LEFT + (self.scale(value) - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)
            words = short(value)
            if x - text_width(words, 11) / 2 > last + 6:
                picture.line((x, HEIGHT - BOTTOM), (x, HEIGHT - BOTTOM + 4), QUIET)
                picture.text((x, HEIGHT - BOTTOM + 17), words, 11, QUIET, anchor="middle")
                last = x + text_width(words, 11) / 2
        picture.line((LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM), QUIET)
        picture.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), x_name, 11.5, QUIET, anchor="middle")


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers within a range."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= raw * (1 - 1e-9))
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def short(value: float) -> str:
    """A number in few characters: ``1.5M``, ``23k``, ``0.05``."""
    for factor, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten within a range of logarithms."""
    values = [unit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for unit in (1, 2, 5)]
    return [value for value in values if low <= math.log10(value) <= high]


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > 30


def _margin(values: Sequence[float]) -> tuple[float, float]:
    """The range of some values, with a little room; never empty."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.05
    if margin <= abs(high) * 1e-9:
        margin = abs(high) * 0.1 or 1.0
    return low - margin, high + margin

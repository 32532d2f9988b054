"""Charts as SVG text: learning curves, and what accuracy cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from amla.exporters.svg import Picture

WIDTH, HEIGHT = 560.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 34.0, 40.0
COLOURS = ("#0969da", "#1a7f37", "#bf3989", "#9a6700", "#8250df", "#cf222e", "#0a7ea4", "#57606a")
QUIET, GRID = "#656d76", "#eaeef2"


class Series(NamedTuple):
    """A line, or (``dots``) single places; ``words`` are shown where the pointer rests on a dot."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    words: Sequence[str] = ()


def chart(title: str, x_name: str, y_name: str, series: Sequence[Series]) -> str:
    """One chart with linear axes; empty text where there is nothing to draw."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return across, down

    picture = Picture()
    for y in _ticks(y_low, y_high):
        _, down = place(x_low, y)
        picture.line(LEFT, down, WIDTH - RIGHT, down, GRID)
        picture.text(LEFT - 6, down + 3, f"{y:.4g}", 9, QUIET, "end")
    for x in _ticks(x_low, x_high):
        across, _ = place(x, y_low)
        picture.text(across, HEIGHT - BOTTOM + 14, f"{x:.4g}", 9, QUIET, "middle")
    picture.text((LEFT + WIDTH) / 2, HEIGHT - 8, x_name, 10, QUIET, "middle")
    picture.text(LEFT, TOP - 9, y_name, 10, QUIET)
    for index, one in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        drawn = [place(x, y) for x, y in one.points]
        if one.dots:
            for number, (x, y) in enumerate(drawn):
                picture.circle(x, y, 4.5, colour, one.words[number] if number < len(one.words) else one.name)
        else:
            picture.polyline(drawn, colour)
        if len(series) > 1:
            picture.text(WIDTH - RIGHT, TOP - 9 + 12 * index, one.name, 9, colour, "end")
    return picture.svg(WIDTH, HEIGHT, "", "").replace("<svg ", f'<svg aria-label="{title}" ', 1)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers within the range."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= raw)
    first = math.ceil(low / step)
    return [round(step * k, 10) for k in range(first, math.floor(high / step) + 1)]

"""Just enough SVG for diagrams and charts: shapes are appended, ``svg`` closes the picture. No text goes in unescaped.

Units are pixels. Shapes are drawn in the order in which they come, those with ``back=True`` before all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

FONT = "Inter, ui-sans-serif, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

INK, QUIET, FAINT, LINE, GRID, PAPER, PANEL = (
    "#1f2328",
    "#59636e",
    "#818b98",
    "#b7bfc8",
    "#e6eaef",
    "#ffffff",
    "#f6f8fa",
)
GREEN, RED, AMBER, VIOLET, BLUE = "#1a7f37", "#cf222e", "#9a6700", "#8250df", "#0969da"

_NARROW, _WIDE = frozenset("iljtfr.,:;'|!()[] ·"), frozenset("mwMW@%")

Point = tuple[float, float]


def text_width(words: str, size: float) -> float:
    """About how wide a line of text is in a sans-serif font."""
    units = sum(0.3 if c in _NARROW else 0.88 if c in _WIDE else 0.68 if c.isupper() else 0.56 for c in words)
    return units * size


class Picture:
    """Shapes so far."""

    def __init__(self) -> None:
        self._back: list[str] = []
        self._front: list[str] = []

    def _put(self, element: str, back: bool, tip: str = "") -> None:
        if tip:
            element = f"<g><title>{escape(tip)}</title>{element}</g>"
        (self._back if back else self._front).append(element)

    def rect(
        self,
        at: Point,
        size: Point,
        fill: str,
        stroke: str = "none",
        *,
        radius: float = 0.0,
        width: float = 1.0,
        dash: str = "",
        back: bool = False,
        tip: str = "",
    ) -> None:
        """A rectangle from its upper left corner. ``tip`` shows where the pointer rests."""
        edge = f' stroke="{stroke}" stroke-width="{_n(width)}"' if stroke != "none" else ""
        edge += f' stroke-dasharray="{dash}"' if dash else ""
        corners = f' rx="{_n(radius)}"' if radius else ""
        place = f'x="{_n(at[0])}" y="{_n(at[1])}" width="{_n(size[0])}" height="{_n(size[1])}"'
        self._put(f'<rect {place}{corners} fill="{fill}"{edge}/>', back, tip)

    def text(
        self,
        at: Point,
        words: str,
        size: float = 12.0,
        colour: str = INK,
        *,
        anchor: str = "start",
        bold: bool = False,
        struck: bool = False,
    ) -> None:
        """One line of text; ``at`` is on its base line."""
        looks = f'font-size="{_n(size)}" fill="{colour}"'
        looks += f' text-anchor="{anchor}"' if anchor != "start" else ""
        looks += ' font-weight="600"' if bold else ""
        looks += ' text-decoration="line-through"' if struck else ""
        self._put(f'<text x="{_n(at[0])}" y="{_n(at[1])}" {looks}>{escape(words)}</text>', False)

    def path(
        self,
        d: str,
        stroke: str,
        *,
        width: float = 1.2,
        dash: str = "",
        opacity: float = 1.0,
        arrow: bool = False,
        back: bool = True,
        fill: str = "none",
        tip: str = "",
    ) -> None:
        """An open or closed path in SVG's own notation."""
        looks = f'stroke="{stroke}" stroke-width="{_n(width)}" fill="{fill}"'
        looks += f' stroke-dasharray="{dash}"' if dash else ""
        looks += f' stroke-opacity="{_n(opacity)}"' if opacity < 1 else ""
        looks += f' marker-end="url(#tip-{stroke[1:]})"' if arrow else ""
        self._put(f'<path d="{d}" {looks}/>', back, tip)

    def line(
        self, start: Point, end: Point, stroke: str, *, width: float = 1.0, arrow: bool = False, back: bool = True
    ) -> None:
        d = f"M{_n(start[0])} {_n(start[1])}L{_n(end[0])} {_n(end[1])}"
        self.path(d, stroke, width=width, arrow=arrow, back=back)

    def polyline(
        self, points: Sequence[Point], stroke: str, *, width: float = 1.8, dash: str = "", opacity: float = 1.0
    ) -> None:
        d = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        self.path(d, stroke, width=width, dash=dash, opacity=opacity, back=False)

    def circle(self, at: Point, radius: float, fill: str, *, stroke: str = "none", tip: str = "") -> None:
        edge = f' stroke="{stroke}" stroke-width="1.5"' if stroke != "none" else ""
        self._put(f'<circle cx="{_n(at[0])}" cy="{_n(at[1])}" r="{_n(radius)}" fill="{fill}"{edge}/>', False, tip)

    def svg(self, width: float, height: float, label: str = "", background: str | None = PAPER) -> str:
        """The whole picture as text. ``label`` is what a screen reader says."""
        body = "\n".join([*self._back, *self._front])
        tips = "".join(
            f'<marker id="tip-{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5L8 4L0 7.5Z" fill="{colour}"/></marker>'
            for colour in (LINE, FAINT, VIOLET, GREEN, RED)
            if f"#tip-{colour[1:]})" in body
        )
        paper = f'<rect width="100%" height="100%" fill="{background}"/>' if background else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" '
            f'height="{_n(height)}" font-family="{FONT}" role="img" aria-label="{escape(label)}">\n'
            + (f"<defs>{tips}</defs>\n" if tips else "")
            + f"{paper}\n{body}\n</svg>\n"
        )


def _n(value: float) -> str:
    """A number with at most one decimal, and without one where it is whole."""
    return f"{value:.1f}".removesuffix(".0")

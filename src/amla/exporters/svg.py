"""Just enough SVG for diagrams and charts: shapes are appended, ``svg`` closes the picture. No text goes in unescaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

FONT = "ui-sans-serif, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_COLOURS = {
    "sep": ("#dafbe1", "#4ac26b"),
    "dil": ("#fbefff", "#c297ff"),
    "pool": ("#fff8c5", "#d4a72c"),
    "conv": ("#ddf4ff", "#54aeff"),
    "other": ("#f6f8fa", "#8c959f"),
}


def operation_colour(operation: str) -> tuple[str, str]:
    """(fill, stroke) by the kind of an operation."""
    for part, colours in _COLOURS.items():
        if part in operation:
            return colours
    return _COLOURS["conv"] if operation[:1].isdigit() else _COLOURS["other"]


class Picture:
    """Shapes in the order in which they are drawn; panels always lie at the back. Units are pixels."""

    def __init__(self) -> None:
        self.back: list[str] = []
        self.shapes: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str,
        stroke: str,
        *,
        dashed: bool = False,
        width: float = 1.0,
    ) -> None:
        dash = ' stroke-dasharray="3 2"' if dashed else ""
        self.shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="5" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="{width}"{dash}/>'
        )

    def panel(self, x: float, y: float, w: float, h: float) -> None:
        self.back.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="10" fill="#f6f8fa" stroke="#d8dee4"/>'
        )

    def bar(self, x: float, y: float, w: float, h: float, fill: str) -> None:
        self.shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="1.5" fill="{fill}"/>')

    def text(
        self, x: float, y: float, words: str, size: float, colour: str, anchor: str = "start", *, struck: bool = False
    ) -> None:
        line = ' text-decoration="line-through"' if struck else ""
        self.shapes.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{line}>'
            f"{escape(words)}</text>"
        )

    def polygon(self, points: Sequence[tuple[float, float]], fill: str, stroke: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(f'<polygon points="{path}" fill="{fill}" stroke="{stroke}"/>')

    def polyline(self, points: Sequence[tuple[float, float]], stroke: str, width: float = 1.6) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.shapes.append(f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width}"/>')

    def circle(self, x: float, y: float, radius: float, fill: str, words: str = "") -> None:
        title = f"<title>{escape(words)}</title>" if words else ""
        self.shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}">{title}</circle>')

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str) -> None:
        self.shapes.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"/>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float, stroke: str) -> None:
        self.back.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" marker-end="url(#tip)"/>'
        )

    def arc(self, x1: float, x2: float, base: float, height: float, stroke: str, *, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="3 2"' if dashed else ""
        self.shapes.append(
            f'<path d="M{x1:.1f},{base:.1f} C{x1:.1f},{base - height:.1f} {x2:.1f},{base - height:.1f} {x2:.1f},{base:.1f}" '
            f'fill="none" stroke="{stroke}" stroke-opacity="0.65"{dash}/>'
        )

    def svg(self, width: float, height: float, title: str = "", subtitle: str = "") -> str:
        """The whole picture as text."""
        words = [
            f'<text x="24" y="30" font-size="15" font-weight="600" fill="#1f2328">{escape(title)}</text>'
            if title
            else "",
            f'<text x="24" y="49" font-size="11" fill="#656d76">{escape(subtitle)}</text>' if subtitle else "",
        ]
        tip = (
            '<defs><marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" markerHeight="5" orient="auto">'
            '<path d="M0,0 L6,3 L0,6 z" fill="#8c959f"/></marker></defs>'
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" font-family="{FONT}" role="img">'
            f'{tip}<rect width="100%" height="100%" fill="#ffffff"/>'
            + "\n".join([*self.back, *self.shapes, *words])
            + "</svg>\n"
        )

"""Documents in words: settings, durations, dates, as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def settings(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of a document's keys, each value in one line; what is None, off, 0 or empty is left out."""
    found = [(name.replace("_", " "), phrase(value)) for name, value in document.items()]
    return [(name, value) for name, value in found if value]


def phrase(value: Any) -> str:
    """A value in words: ``{"kind": "sgd", "momentum": 0.9}`` is ``sgd (momentum 0.9)``."""
    if value is True:
        return "yes"
    if not value:  # None, off, 0, empty
        return ""
    if isinstance(value, Mapping):
        rest = {name: part for name, part in value.items() if name not in ("kind", "op")}
        head = str(value.get("kind") or value.get("op") or "").replace("_", " ")
        parts = []
        for name, part in rest.items():
            words = phrase(part)
            if words:
                shown = name.replace("_", " ")
                parts.append(shown if part is True else f"{shown} {words}")
        inside = ", ".join(parts)
        return f"{head} ({inside})" if head and inside else head or inside
    if isinstance(value, list | tuple):
        return ", ".join("no" if part is False else phrase(part) or str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """``0.43 s``, ``59.9 s``, ``12 min 3 s``, ``3 h 20 min``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def date(iso: str) -> str:
    """``24 November 2026, 18:45 UTC``; text that is no date as it is."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"

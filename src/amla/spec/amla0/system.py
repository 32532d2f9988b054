"""``system.json`` of AMLA 0.x: where its services ran. Nothing of it sets anything today; this says what does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEYS = {
    "persistent": "results are kept in the run's folder (--out)",
    "schedule": "the schedule is kept in the store (--store)",
    "keyvalue": "documents are kept in the store (--store)",
    "database": "the store is any database by its URL (--store or AMLA_STORE), its password included",
    "services": "services are plug-ins of one program",
    "exes": "services are plug-ins of one program; there is nothing to point to",
    "exec": "where trials run is --executor (inline, process)",
    "host": "everything runs where `amla` is called",
    "port": "no port is opened",
}


def is_system(data: Mapping[str, Any]) -> bool:
    """Whether this is a ``system.json``: at least two of its keys, and nothing of a task."""
    return len(set(KEYS) & set(data)) >= 2 and "parameters" not in data


def system_report(data: Mapping[str, Any]) -> list[str]:
    """A line a key: what takes its place today. Values, passwords among them, are not repeated."""
    lines = ["system.json of AMLA 0.x sets nothing here:"]
    return lines + [f"  {key}: {KEYS.get(key, 'not a key that AMLA 0.x knew')}" for key in data]

"""A whole table in the form of NAS-Bench-201's, made up by a formula: for tests of what searches on tables."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from zlib import crc32

from amla.datasets.table import BENCHMARKED, KEY, SUFFIXES
from amla.spaces.nasbench201 import EDGES, OPERATIONS, PUBLISHED

#: Points that an operation is worth on an edge.
WORTH = {"zero": 0.0, "3x3avgpool": 1.0, "identity": 2.0, "1x1": 4.0, "3x3": 5.0}

Row = dict[str, float | str]


def rows() -> Iterator[Row]:
    """All cells: accuracy grows with what their operations are worth, by luck that is the same every time, and with epochs;
    seconds and parameters with their convolutions."""
    for operations in product(OPERATIONS, repeat=len(EDGES)):
        text = _text(operations)
        row: Row = {KEY: text, "params_m": 0.1 + 0.1 * sum(WORTH[name] for name in operations)}
        for number, name in enumerate(BENCHMARKED):
            row |= _results(name, text, 80.0 - 20.0 * number, sum(WORTH[operation] for operation in operations))
        row["cifar10_cost12_s"] = 60.0 + sum(WORTH[operation] for operation in operations)
        yield row


def write_csv(path: Path, without: str | None = None) -> Path:
    """The table as a file, without one of its columns where that is said."""
    table = [{name: value for name, value in row.items() if name != without} for row in rows()]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def _results(name: str, text: str, base: float, worth: float) -> Row:
    results: Row = {}
    for epochs, suffix in SUFFIXES.items():
        for split in ("valid", "test"):
            luck = crc32(f"{name}{split}{epochs}{text}".encode()) % 1000 / 1000.0
            results[f"{name}_{split}{suffix}"] = base * (0.7 if epochs == min(SUFFIXES) else 0.8) + worth / 2 + luck
    return results


def _text(operations: tuple[str, ...]) -> str:
    edges = [f"{PUBLISHED[operation]}~{source}" for operation, (source, _) in zip(operations, EDGES, strict=True)]
    return f"|{edges[0]}|+|{'|'.join(edges[1:3])}|+|{'|'.join(edges[3:])}|"

"""The table of a comparison, from figures that were chosen for it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from amla.reports.comparison import FIGURES, Comparison, Row
from amla.reports.comparison_table import csv_text, markdown
from amla.reports.significance import difference, spread

GOLDEN = Path(__file__).parent / "golden"
RANDOM = {0: 0.90, 1: 0.91, 2: 0.92}
NAC = {0: 0.91, 1: 0.93, 2: 0.93}


def row(arm: str, accuracy: dict[int, float], scale: float, **more: object) -> Row:
    values = {name: [scale * (10 + seed) for seed in accuracy] for name in FIGURES}
    values |= {"test_accuracy": list(accuracy.values()), "selection_seconds": [0.0] * len(accuracy)}
    figures = {name: found for name, numbers in values.items() if (found := spread(numbers))}
    found = {"arm": arm, "searcher": arm, "seeds": tuple(accuracy), "figures": figures, "devices": ("CPU, 1 threads",)}
    return Row(**(found | more))


def comparison() -> Comparison:
    rows = (
        row("random", RANDOM, 1.0),
        row("nac", NAC, 1234.5, against_baseline=difference(NAC, RANDOM)),
        row("one|seed", {0: 0.5}, 2.0, failed=("seed 1: the loss is NaN",), devices=("a GPU",)),
        row("none", {}, 1.0, failed=("seed 0: it was too large",), devices=()),
    )
    differences = ("stem of a and b differ",)
    return Comparison(name="shapes", baseline="random", rows=rows, differences=differences)


def test_markdown(golden) -> None:
    golden(GOLDEN / "comparison.md", markdown(comparison()))


def test_csv_holds_the_numbers_as_they_are() -> None:
    found = comparison()
    lines = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [line["arm"] for line in lines] == ["random", "nac", "one|seed", "none"]
    assert float(lines[1]["test_accuracy_mean"]) == found.rows[1].figures["test_accuracy"].mean
    assert float(lines[1]["p"]) == found.rows[1].against_baseline.p
    assert lines[2]["test_accuracy_std"] == ""
    assert lines[3]["failed"] == "1"

"""The table of a comparison as text: cells for people, Markdown, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

from amla.reports.charts import short
from amla.reports.comparison import FIGURES, Comparison, Row
from amla.reports.significance import Spread, Test

#: Column -> (its head, how a value is written).
_SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "test_accuracy": ("test accuracy %", lambda value: f"{100 * value:.2f}"),
    "parameters": ("parameters", short),
    "flops": ("multiply-adds", short),
    "latency_ms": ("latency ms", lambda value: f"{value:.3g}"),
    "search_seconds": ("search s", lambda value: f"{value:.1f}"),
    "selection_seconds": ("selection s", lambda value: f"{value:.1f}"),
    "final_seconds": ("final training s", lambda value: f"{value:.1f}"),
    "total_seconds": ("total s", lambda value: f"{value:.1f}"),
    "trials": ("trials", lambda value: f"{value:.3g}"),
}
NOTHING = "-"


def columns(found: Comparison) -> list[str]:
    """The heads of the columns."""
    against = [f"against {found.baseline} (95 %)", "p"] if found.baseline else []
    return ["arm", "seeds", _SHOWN["test_accuracy"][0], *against, *(_SHOWN[name][0] for name in FIGURES[1:]), "device"]


def table(found: Comparison) -> list[list[str]]:
    """A line of cells for every arm."""
    return [_cells(row, found) for row in found.rows]


def _cells(row: Row, found: Comparison) -> list[str]:
    figures = {name: _cell(row.figures.get(name), _SHOWN[name][1]) for name in FIGURES}
    against = _against(row.against_baseline, baseline=row.arm == found.baseline) if found.baseline else []
    seeds = str(len(row.seeds)) + (f" ({len(row.failed)} failed)" if row.failed else "")
    rest = [figures[name] for name in FIGURES[1:]]
    return [row.arm, seeds, figures["test_accuracy"], *against, *rest, "; ".join(row.devices) or NOTHING]


def _cell(spread: Spread | None, written: Callable[[float], str]) -> str:
    if spread is None:
        return NOTHING
    mean = written(spread.mean)
    return mean if spread.std is None else f"{mean} ± {written(spread.std)}"


def _against(test: Test | None, *, baseline: bool) -> list[str]:
    if baseline:
        return ["baseline", NOTHING]
    if test is None:
        return [NOTHING, NOTHING]
    low, high = 100 * test.low, 100 * test.high
    said = f"{100 * test.difference:+.2f} [{low:+.2f}, {high:+.2f}]"
    return [said, NOTHING if test.p is None else f"{test.p:.2g}"]


def footnotes(found: Comparison) -> list[str]:
    """What a reader must know, a line each: how the numbers come about, what is not comparable, what failed."""
    lines = [f"Not on the same footing: {difference}." for difference in found.differences]
    lines += [f"Failed: {row.arm}, {reason}" for row in found.rows for reason in row.failed]
    devices = {device for row in found.rows for device in row.devices}
    if len(devices) > 1:
        lines.append(f"Seconds were taken on different devices: {'; '.join(sorted(devices))}.")
    lines.append("Values are mean ± standard deviation over the seeds.")
    tests = [row.against_baseline for row in found.rows if row.against_baseline]
    if found.baseline:
        lines.append(_about_tests(found.baseline, tests))
    return lines


def _about_tests(baseline: str, tests: list[Test]) -> str:
    kinds = {test.kind for test in tests}
    words = {"paired": "paired t-test by seed", "welch": "Welch's t-test"}
    if not kinds:
        return f"Too few seeds for a test against {baseline}."
    pairs = sorted({test.n for test in tests if test.kind == "paired"})
    n = f", n = {', '.join(map(str, pairs))}" if pairs else ""
    said = " or ".join(words[kind] for kind in sorted(kinds))
    return (
        f"Differences from {baseline} in points, with their 95 % interval ({said}{n}); p is two-sided and not corrected for "
        f"the number of arms."
    )


def markdown(found: Comparison) -> str:
    """The table with its footnotes as Markdown."""
    heads = columns(found)
    lines = [f"# {found.name}", "", _line(heads), _line(["---"] + ["---:"] * (len(heads) - 2) + ["---"])]
    lines += [_line(cells) for cells in table(found)]
    return "\n".join([*lines, "", *(f"- {note}" for note in footnotes(found)), ""])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def csv_text(found: Comparison) -> str:
    """One line an arm, numbers as they are: every figure's mean and deviation, and the test's."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    figures = [f"{name}_{part}" for name in FIGURES for part in ("mean", "std")]
    test = ["test", "pairs", "difference", "low", "high", "p"]
    writer.writerow(["arm", "searcher", "seeds", "failed", *figures, *test, "device"])
    for row in found.rows:
        spreads = [row.figures.get(name) for name in FIGURES]
        values = [value for spread in spreads for value in ((spread.mean, spread.std) if spread else ("", ""))]
        against = row.against_baseline
        tested = (
            [against.kind, against.n, against.difference, against.low, against.high, against.p] if against else [""] * 6
        )
        seeds = " ".join(map(str, row.seeds))
        writer.writerow([row.arm, row.searcher, seeds, len(row.failed), *values, *tested, "; ".join(row.devices)])
    return file.getvalue()

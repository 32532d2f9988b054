"""What a person sees of a comparison: which run is next and how many are left; at the end, the table."""

from __future__ import annotations

import time

from rich.console import Console
from rich.table import Table

from amla.cli.console import watching
from amla.comparing import Overseer
from amla.engine.arms import Run
from amla.reports.comparison import Comparison
from amla.reports.comparison_table import columns, footnotes, table
from amla.reports.words import duration


def overseen(quiet: bool, store: str | None) -> Overseer:
    """An ``Overseer`` that says on standard error what is left, unless ``quiet``."""
    console = Console(stderr=True, quiet=quiet)
    began = time.monotonic()

    def on_run(run: Run, number: int, count: int) -> None:
        left = count - number
        budget = run.spec.time_budget
        about = f", {duration(left * budget)} at least" if budget else ""
        console.rule(f"{number + 1} of {count}: {run.arm}, seed {run.seed}; {left} left{about}", style="dim")
        console.print(f"[dim]{duration(time.monotonic() - began)} so far[/]")

    def on_failure(run: Run, reason: str) -> None:
        console.print(f"[red]{run.arm}, seed {run.seed} failed[/]: {reason}; the others go on", soft_wrap=True)

    return Overseer(on_run=on_run, on_failure=on_failure, watch=lambda: watching(quiet, store))


def print_comparison(found: Comparison) -> None:
    """What was found, and what it cost, on standard output."""
    console = Console()
    heads, rows = columns(found), table(found)
    cut = heads.index("search s")
    for title, places in ((found.name, range(cut)), ("what it cost", [0, *range(cut, len(heads))])):
        shown = Table(title=title, title_style="bold")
        for place in places:
            left = heads[place] in ("arm", "device")
            shown.add_column(heads[place], justify="left" if left else "right", no_wrap=place == 0)
        for row in rows:
            shown.add_row(*(row[place] for place in places))
        console.print(shown)
    for line in footnotes(found):
        console.print(line, soft_wrap=True, highlight=False, markup=False)

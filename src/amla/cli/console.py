"""What a person sees while a search runs, and at its end."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from amla.api import SearchResult, Watch
from amla.engine.prepare import describe
from amla.engine.rehearsal import make_searcher, rehearse
from amla.engine.store import Store, default_url
from amla.engine.summary import left_out
from amla.reports.words import phrase
from amla.spec.experiment import Experiment
from amla.spec.trial import Progress as Told
from amla.spec.trial import Trial

if TYPE_CHECKING:
    from rich.progress import Task

#: Seconds between two looks at the store, for an `amla stop` typed elsewhere.
LOOK = 1.0


@contextlib.contextmanager
def watching(quiet: bool, store: str | None) -> Iterator[Watch]:
    """A ``Watch`` that shows progress on standard error (unless ``quiet``) and stops on Ctrl-C or `amla stop`.

    The first Ctrl-C lets the trial write a checkpoint; the second one leaves at once, which loses nothing that was
    checkpointed before.
    """
    if quiet:  # libraries that download or convert data show bars of their own
        os.environ |= {"TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    stopping = _Stopping(store)
    screen = _Screen(quiet)

    def report(told: Told) -> bool:
        screen.report(told)
        return not stopping()

    def begin(experiment: Experiment) -> None:
        stopping.experiment = experiment.id
        screen.begin(experiment)

    before = {kind: signal.signal(kind, stopping.on_signal) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        with screen.progress:
            yield Watch(report=report, on_begin=begin, on_trial=screen.trial, stop=stopping)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class _Stopping:
    """Says whether to stop: a signal came, or the store says so."""

    def __init__(self, store: str | None) -> None:
        self.store = store
        self.signalled = False
        self.experiment: str | None = None
        self.looked = 0.0

    def on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  # as the signal module calls it
        if self.signalled:
            raise KeyboardInterrupt
        self.signalled = True

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.signalled and self.experiment and now - self.looked > LOOK:
            self.looked = now
            with Store(self.store or default_url()) as opened:
                self.signalled = opened.experiment(self.experiment).state == "stopped"
        return self.signalled


class _Left(ProgressColumn):
    """Time left, from the share of all multiply-adds that is done."""

    def render(self, task: Task) -> Text:
        if not task.elapsed or task.percentage <= 1.0:
            return Text("-:-- left", style="progress.remaining")
        left = int(task.elapsed * (100.0 - task.percentage) / task.percentage)
        return Text(f"{left // 60}:{left % 60:02d} left", style="progress.remaining")


class _Screen:
    """One bar for the whole experiment, and a line for every trial that ended."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("[dim]{task.fields[detail]}"),
            TimeElapsedColumn(),
            _Left(),
            console=self.console,
            transient=True,
            disable=quiet,
        )
        self.costs: list[float] = []
        self.done: set[int] = set()
        self.bar = self.progress.add_task("starting", total=1.0, detail="")
        self.detail: dict[str, float] = {}

    def begin(self, experiment: Experiment) -> None:
        if self.quiet:
            return
        searcher = make_searcher(experiment.spec, experiment.problem)
        batch = experiment.problem.training.batch_size
        for trial in rehearse(searcher, experiment.problem):
            steps = trial.spec.budget.in_steps(experiment.problem.train_size, batch) or 1
            self.costs.append(steps * float(trial.result.flops if trial.result else 1))
        self.progress.update(self.bar, total=sum(self.costs) or 1.0)
        known = describe(experiment)
        self.console.print(
            f"[bold]{experiment.id}[/]  {experiment.spec.dataset.name}, {experiment.spec.searcher}, seed {experiment.spec.seed}"
            f"  ->  {experiment.folder}",
            soft_wrap=True,
        )
        self.console.print(
            f"[dim]first network {known['parameters']:,} parameters; {known['search_steps']} steps a search trial, "
            f"{known['final_steps']} at the end; {known.get('device', '')} {known.get('dtype', '')}",
            soft_wrap=True,
        )

    def report(self, told: Told) -> None:
        share = told.step / told.steps if told.steps else 0.0
        values = {"loss": told.loss, "accuracy": told.accuracy, "images/s": told.images_per_second}
        self.detail |= {name: value for name, value in values.items() if value is not None}
        parts = []
        if "loss" in self.detail:
            parts.append(f"loss {self.detail['loss']:.3f}")
        if "accuracy" in self.detail:
            parts.append(f"valid {100 * self.detail['accuracy']:.1f}%")
        if "images/s" in self.detail:
            parts.append(f"{self.detail['images/s']:,.0f} images/s")
        completed = self._before(told.number) + share * self._cost(told.number)
        self.progress.update(self.bar, completed=completed, description=f"trial {told.number}", detail="  ".join(parts))

    def trial(self, trial: Trial) -> None:
        if not trial.finished:
            return
        self.done.add(trial.number)
        self.progress.update(self.bar, completed=self._before(trial.number) + self._cost(trial.number))
        self.console.print(_line(trial), soft_wrap=True)

    def _before(self, number: int) -> float:
        return sum(self.costs[: min(number, len(self.costs))])

    def _cost(self, number: int) -> float:
        return self.costs[number] if number < len(self.costs) else 0.0


def _line(trial: Trial) -> str:
    what = f"{trial.spec.purpose:<9}"
    head = f"  trial {trial.number:>3}  {what}"
    result = trial.result
    if result is None or result.failure:
        reason = result.failure.reason if result and result.failure else "no result"
        return f"{head}  [red]failed[/]: {reason}"
    if trial.spec.purpose == "test":
        return f"{head}  accuracy {100 * result.metrics['test']['accuracy']:.2f}%"
    changes = _changes(trial.spec.memo)
    return (
        f"{head}  valid {100 * result.accuracy:.2f}%  {result.parameters:>10,} parameters  "
        f"{result.cost.seconds:6.1f} s{changes}"
    )


def _changes(memo: dict[str, Any]) -> str:
    counts = [(len(memo.get(key, [])), word) for key, word in (("pruned", "pruned"), ("grown", "grown"))]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    return f"  [dim]({said})" if said else ""


def print_result(result: SearchResult) -> None:
    """The table at the end, on standard output."""
    console = Console()
    summary = result.summary
    if result.experiment.state == "stopped":
        console.print(f"stopped; go on with: amla resume {result.experiment.id}")
        return
    table = Table(title=f"{result.experiment.name}", show_header=False, title_style="bold")
    table.add_column(style="dim")
    table.add_column(justify="right")
    best, seconds = summary["best"], summary["seconds"]
    if summary["test"]:
        table.add_row("test accuracy", f"{100 * summary['test']['accuracy']:.2f} %")
    if best:
        table.add_row("validation accuracy", f"{100 * best['accuracy']:.2f} %")
        table.add_row("parameters", f"{best['parameters']:,}")
        table.add_row("multiply-adds an image", f"{best['flops']:,}")
        if best["latency_ms"] is not None:
            table.add_row("latency of an image", f"{best['latency_ms']:.3f} ms")
        if not best["feasible"]:
            table.add_row("[red]limits[/]", "[red]broken: it was measured slower than --max-latency-ms[/]")
        for name, value in best["hyperparameters"].items():
            table.add_row(name, phrase(value) or str(value))
    table.add_row("search", f"{seconds['search']:.1f} s")
    if seconds["selection"]:
        table.add_row("selection", f"{seconds['selection']:.1f} s")
    left = left_out(result.trials)
    told = f", {left} steps left out: no time" if left else ""
    table.add_row("final training", f"{seconds['final']:.1f} s{told}")
    table.add_row("device", str(summary.get("device", "")))
    console.print(table)
    console.print(f"everything is in {result.folder}; begin with {result.folder / 'report.html'}", soft_wrap=True)

"""``report.html``: one self-contained file that explains a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from amla import artifacts
from amla.engine.summary import summary
from amla.exporters.diagram import diagram
from amla.reports.charts import Series, chart
from amla.spec.costs import costs
from amla.spec.data import DatasetInfo
from amla.spec.experiment import Experiment
from amla.spec.lower import lower
from amla.spec.trial import Trial

FILE = "report.html"
#: Statistics that a diagram may show as bars, the first one that a trial has.
SHOWN = ("mean_square", "variance", "taylor", "covariance_entropy", "mean_square_before_norm", "variance_before_norm")

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("amla.reports"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_ENVIRONMENT.filters["percent"] = lambda value: f"{100 * value:.2f} %"
_ENVIRONMENT.filters["count"] = lambda value: f"{value:,}"


def report(experiment: Experiment, trials: Sequence[Trial], info: DatasetInfo | None) -> str:
    """The page as text. Works for an experiment that has not ended too: it shows what there is."""
    trained = [trial for trial in trials if trial.spec.purpose != "test"]
    pictures = diagrams(experiment, trials)
    rows = [_row(trial, pictures.get(trial.number, "")) for trial in trained]
    final = next((t.number for t in reversed(trained) if t.spec.purpose == "final" and t.state == "done"), None)
    return _ENVIRONMENT.get_template("report.html").render(
        experiment=experiment,
        spec=experiment.spec,
        problem=experiment.problem,
        info=info,
        summary=summary(experiment, trials),
        rows=rows,
        final_picture=Markup(pictures.get(final, "")) if final is not None else "",  # our own, escaped
        curves=Markup(_curves(trained)),
        cost_chart=Markup(_cost_chart(trained)),
    )


def write_report(experiment: Experiment, trials: Sequence[Trial], info: DatasetInfo | None, folder: Path) -> Path:
    """Write the page; returns where it is."""
    artifacts.write(str(folder), FILE, report(experiment, trials, info).encode())
    return folder / FILE


def diagrams(experiment: Experiment, trials: Sequence[Trial]) -> dict[int, str]:
    """The diagram of every trained trial, each compared with the one that it was constructed from."""
    pictures: dict[int, str] = {}
    before: Trial | None = None
    for trial in trials:
        if trial.spec.purpose == "test":
            continue
        constructed = "iteration" in trial.spec.memo
        parent = before.spec.architecture if before and constructed else None
        pictures[trial.number] = _diagram(experiment, trial, parent)
        if constructed and trial.state == "done":
            before = trial
    return pictures


def _diagram(experiment: Experiment, trial: Trial, parent: Any) -> str:
    problem = experiment.problem
    found = costs(lower(trial.spec.architecture, problem.input_shape, problem.num_classes))
    words = [f"{found.parameters:,} parameters", f"{found.flops:,} multiply-adds", f"depth {found.depth}"]
    if trial.result and trial.result.failure is None:
        words.append(f"validation {100 * trial.result.accuracy:.2f} %")
    statistic, values = _shown_statistic(trial)
    if values:
        words.append(f"bars: {statistic.replace('_', ' ')}")
    title = f"trial {trial.number}"
    if "iteration" in trial.spec.memo:
        title += f", iteration {trial.spec.memo['iteration']}"
    if trial.spec.purpose == "final":
        title += ", the final network"
    return diagram(trial.spec.architecture, parent=parent, values=values, title=title, subtitle="  ·  ".join(words))


def _shown_statistic(trial: Trial) -> tuple[str, dict[str, float]]:
    statistics = trial.result.statistics if trial.result else {}
    for name in SHOWN:
        values = {block: found[name] for block, found in statistics.items() if name in found}
        if values:
            return name, values
    return "", {}


def _row(trial: Trial, picture: str) -> dict[str, Any]:
    """What the template shows of a trial."""
    statistics = trial.result.statistics if trial.result else {}
    blocks = {name: values for name, values in statistics.items() if "scalar" not in values}
    skips = {name: values for name, values in statistics.items() if "scalar" in values}
    return {
        "trial": trial,
        "picture": Markup(picture),  # our own, with every text escaped
        "tables": [table for table in (_table(blocks), _table(skips)) if table["rows"]],
        "memo": {"pruned": [], "grown": [], "unlinked": [], "agreement": None} | trial.spec.memo,
        "failure": trial.result.failure if trial.result else None,
    }


def _table(statistics: dict[str, dict[str, float]]) -> dict[str, Any]:
    columns = sorted({name for values in statistics.values() for name in values})
    rows = [(block, [values.get(name) for name in columns]) for block, values in statistics.items()]
    return {"columns": [name.replace("_", " ") for name in columns], "rows": rows}


def _curves(trials: Sequence[Trial]) -> str:
    loss = [
        Series(f"trial {t.number}", [(p.step, p.loss) for p in t.result.curve])
        for t in trials
        if t.result and len(t.result.curve) > 1
    ]
    accuracy = []
    for t in trials:
        points = [(p.step, 100 * p.accuracy) for p in t.result.curve if p.accuracy is not None] if t.result else []
        if t.result and t.result.curve and t.result.failure is None:
            points.append((t.result.curve[-1].step, 100 * t.result.accuracy))
        if len(points) > 1:
            accuracy.append(Series(f"trial {t.number}", points))
    return chart("training loss", "step", "training loss", loss[-8:]) + chart(
        "validation accuracy", "step", "validation accuracy, %", accuracy[-8:]
    )


def _cost_chart(trials: Sequence[Trial]) -> str:
    done = [t for t in trials if t.result and t.result.failure is None]
    spent, points, words = 0.0, [], []
    for t in done:
        assert t.result is not None
        spent += t.result.cost.seconds
        points.append((spent, 100 * t.result.accuracy))
        words.append(f"trial {t.number}: {100 * t.result.accuracy:.2f} % after {spent:.1f} s")
    sizes = [(t.result.parameters / 1000, 100 * t.result.accuracy) for t in done if t.result]
    return chart(
        "accuracy against cost",
        "seconds spent so far",
        "validation accuracy, %",
        [Series("trials", points, True, words)],
    ) + chart(
        "accuracy against size", "thousand parameters", "validation accuracy, %", [Series("trials", sizes, True, words)]
    )

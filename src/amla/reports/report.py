"""``report.html``: one self-contained file that explains a run to somebody who was not there."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from amla import artifacts
from amla.engine.summary import final_trial, left_out, summary, tuned_values
from amla.reports import figures, words
from amla.reports.charts import short
from amla.spec.costs import costs
from amla.spec.data import DatasetInfo
from amla.spec.experiment import Experiment, Problem
from amla.spec.lower import lower
from amla.spec.trial import Statistics, Trial

FILE = "report.html"
#: So many trials are shown with their pictures, the last ones and the best; the table has all of them.
MOST_SHOWN = 60
#: Up to so many trials stand open on the page.
MOST_OPEN = 12


def report(experiment: Experiment, trials: Sequence[Trial], info: DatasetInfo | None) -> str:
    """The page as text. Works for an experiment that has not ended too: it shows what there is."""
    networks = figures.trained(trials)
    final = final_trial(networks)
    shown = _shown(networks)
    before = figures.predecessors(trials)
    return template("report.html").render(
        experiment=experiment,
        spec=experiment.spec,
        problem=experiment.problem,
        info=info,
        created=words.date(experiment.created),
        summary=summary(experiment, trials),
        total=sum(t.result.cost.seconds for t in trials if t.result),
        final=Markup(figures.picture(experiment, final, None, "The final network")) if final else None,
        asked=_asked(experiment, trials),
        rows=[_row(experiment, trial) for trial in networks],
        curves=[Markup(chart) for chart in figures.curves(trials)],
        cost_charts=[Markup(chart) for chart in figures.cost_charts(trials)],
        front_charts=[Markup(chart) for chart in figures.front_charts(experiment, trials)],
        sections=[
            _section(experiment, trial, before.get(trial.number), _doomed(trial, networks, before)) for trial in shown
        ],
        left_out=len(networks) - len(shown),
        open_all=len(shown) <= MOST_OPEN,
    )


def write_report(experiment: Experiment, trials: Sequence[Trial], info: DatasetInfo | None, folder: Path) -> Path:
    """Write the page; returns where it is."""
    artifacts.write(str(folder), FILE, report(experiment, trials, info).encode())
    return folder / FILE


@functools.cache
def template(name: str) -> jinja2.Template:
    """A page of this folder; what is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amla.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": lambda value: f"{100 * value:.2f} %",
        "count": lambda value: f"{value:,}",
        "short": short,
        "duration": words.duration,
        "number": lambda value: f"{value:.4g}",
    }
    return environment.get_template(name)


def _shown(networks: Sequence[Trial]) -> list[Trial]:
    """The trials that get a section: all of them, or the best and the last where there are too many."""
    if len(networks) <= MOST_SHOWN:
        return list(networks)
    best = sorted(networks, key=lambda t: t.result.accuracy if t.result else -1.0)[-MOST_SHOWN // 2 :]
    kept = {trial.number for trial in [*best, *networks[-MOST_SHOWN // 2 :]]}
    return [trial for trial in networks if trial.number in kept]


def _asked(experiment: Experiment, trials: Sequence[Trial]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What was searched and how, in groups of (name, value)."""
    spec, problem = experiment.spec, experiment.problem
    objectives = ", ".join(f"{objective.direction} {objective.metric}" for objective in problem.objectives)
    run = {
        "search trial": problem.budget.to_data(),
        "final training": problem.final_budget.to_data(),
        "left out of it for time": f"{left} steps" if (left := left_out(trials)) else None,
        "trials at most": problem.trials,
        "time budget": words.duration(spec.time_budget) if spec.time_budget else None,
        "objective": objectives,
        "limits": problem.limits.to_data(),
        "seed": str(spec.seed),
        "trainer": spec.trainer,
        "executor": f"{spec.executor}, {spec.jobs} at a time" if spec.jobs > 1 else spec.executor,
        **{name: experiment.measured.get(name) for name in ("device", "dtype", "threads")},
    }
    return [
        (f"Searcher: {spec.searcher}", words.settings(spec.settings) or [("settings", "defaults")]),
        (f"Space: {problem.space}", words.settings(problem.space_settings) or [("settings", "defaults")]),
        ("Run", words.settings(run)),
        ("Training", words.settings(problem.training.to_data())),
        *([("Hyperparameters searched", _ranges(problem))] if problem.hyperparameters else []),
    ]


def _ranges(problem: Problem) -> list[tuple[str, str]]:
    """What each hyperparameter may be."""
    return [(name, words.phrase(parameter.to_data())) for name, parameter in problem.hyperparameters.items()]


def _row(experiment: Experiment, trial: Trial) -> dict[str, Any]:
    """A line of the table of all networks. Costs are known before a network is trained."""
    result, problem = trial.result, experiment.problem
    cost = costs(lower(trial.spec.architecture, problem.input_shape, problem.num_classes))
    return {
        "trial": trial,
        "name": figures.heading(trial),
        "accuracy": result.accuracy if result and result.failure is None and result.accuracy >= 0 else None,
        "cost": cost,
        "result": result,
        "failure": _failure(trial),
        "changes": _changes(trial),
        "tuned": [(name, words.phrase(value) or str(value)) for name, value in tuned_values(experiment, trial).items()],
    }


def _failure(trial: Trial) -> str | None:
    if trial.state not in ("failed", "cancelled"):
        return None
    found = trial.result.failure if trial.result else None
    return f"{found.kind}: {found.reason}" if found else trial.state


def _changes(trial: Trial) -> list[tuple[str, str, list[str]]]:
    """What the searcher says that it did to the network before this one: (kind, in words, names)."""
    said = (("pruned", "branch", "branches"), ("grown", "layer", "layers"), ("unlinked", "skip", "skips"))
    found = []
    for key, one, many in said:
        names = [str(name) for name in _names(trial.spec.memo.get(key))]
        if names:
            done = "cut" if key == "unlinked" else key
            found.append((done, f"{len(names)} {one if len(names) == 1 else many} {done}", names))
    return found


def _section(experiment: Experiment, trial: Trial, before: Trial | None, doomed: set[str]) -> dict[str, Any]:
    """All that is shown of one trial; ``doomed`` are the blocks that the next network lacks."""
    statistics = trial.result.statistics if trial.result else {}
    agreement = trial.spec.memo.get("agreement")
    problem = experiment.problem
    graph = lower(trial.spec.architecture, problem.input_shape, problem.num_classes)
    kinds = {block.name: block.kind for block in graph.blocks}
    branches = {name: values for name, values in statistics.items() if kinds.get(name) != "skip"}
    skips = {name: values for name, values in statistics.items() if kinds.get(name) == "skip"}
    return {
        **_row(experiment, trial),
        "picture": Markup(figures.picture(experiment, trial, before)),  # our own, with every text escaped
        "before": before.number if before else None,
        "agreement": f"{agreement:.2f}" if isinstance(agreement, float) else None,
        "curves": [Markup(chart) for chart in figures.curves([trial])],
        "tables": [
            table
            for table in (_table("Blocks", branches, kinds, doomed), _table("Skips", skips, kinds, doomed))
            if table["rows"]
        ],
    }


def _doomed(trial: Trial, networks: Sequence[Trial], before: Mapping[int, Trial]) -> set[str]:
    """The blocks of a trial's network that were pruned from it to make the next one."""
    following = [other.spec.memo for other in networks if before.get(other.number) is trial]
    return {str(name) for memo in following for key in ("pruned", "unlinked") for name in _names(memo.get(key))}


def _names(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _table(title: str, statistics: Statistics, kinds: Mapping[str, str], doomed: set[str]) -> dict[str, Any]:
    """Statistics of blocks: per value its share of the column's largest, for a bar behind it."""
    columns = sorted({name for values in statistics.values() for name in values})
    largest = {
        c: max((abs(v[c]) for v in statistics.values() if c in v and math.isfinite(v[c])), default=0.0) for c in columns
    }
    rows = []
    for block, values in statistics.items():
        cells = []
        for column in columns:
            value = values.get(column)
            known = value is not None and math.isfinite(value) and largest[column] > 0
            cells.append((value, round(100 * abs(value) / largest[column]) if value is not None and known else 0))
        rows.append({"name": block, "kind": kinds.get(block, ""), "cells": cells, "doomed": block in doomed})
    return {"title": title, "columns": [name.replace("_", " ") for name in columns], "rows": rows}

"""The pictures of a run: every network beside the one that it was made from, learning curves, cost against accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from amla.engine.summary import front
from amla.exporters.diagram import diagram
from amla.reports.charts import FINAL, QUIET, Dot, Line, dot_chart, line_chart, ramp
from amla.spec.experiment import Experiment, Metric
from amla.spec.objectives import measured, usable
from amla.spec.trial import Result, Trial

#: Statistics that a diagram may show as bars: the first one that a trial has.
SHOWN = (
    "mean_square",
    "variance",
    "taylor",
    "covariance_entropy",
    "switched_off",
    "mean_square_before_norm",
    "variance_before_norm",
)


def trained(trials: Sequence[Trial]) -> list[Trial]:
    """All trials but the reading of the test split, by number."""
    return sorted((t for t in trials if t.spec.purpose != "test"), key=lambda trial: trial.number)


def predecessors(trials: Sequence[Trial]) -> dict[int, Trial]:
    """The trial that each one's network was made from, where it was made from one: its parent, or the iteration before."""
    found: dict[int, Trial] = {}
    by_number = {trial.number: trial for trial in trials}
    before: Trial | None = None
    for trial in trained(trials):
        if trial.spec.parent in by_number:
            found[trial.number] = by_number[trial.spec.parent]
        elif before and "iteration" in trial.spec.memo:
            found[trial.number] = before
        if "iteration" in trial.spec.memo and trial.state == "done":
            before = trial
    return found


def statistic_of(trial: Trial) -> str:
    """The statistic that is drawn of a trial's blocks; empty where it has none."""
    statistics = trial.result.statistics if trial.result else {}
    return next((name for name in SHOWN if any(name in values for values in statistics.values())), "")


def picture(experiment: Experiment, trial: Trial, before: Trial | None, title: str = "") -> str:
    """The diagram of a trial's network, compared with that of ``before``."""
    facts = ""
    if trial.result and trial.result.failure is None and trial.result.accuracy >= 0:
        facts = f"validation {100 * trial.result.accuracy:.2f} %"
    statistic = statistic_of(trial) or (statistic_of(before) if before else "")
    return diagram(
        trial.spec.architecture,
        experiment.problem.input_shape,
        experiment.problem.num_classes,
        parent=before.spec.architecture if before else None,
        statistics=trial.result.statistics if trial.result else None,
        parent_statistics=before.result.statistics if before and before.result else None,
        statistic=statistic,
        title=title or heading(trial),
        facts=facts,
    )


def diagrams(experiment: Experiment, trials: Sequence[Trial]) -> dict[int, str]:
    """The diagram of every trained trial by its number, each compared with its predecessor."""
    before = predecessors(trials)
    return {trial.number: picture(experiment, trial, before.get(trial.number)) for trial in trained(trials)}


def heading(trial: Trial) -> str:
    """What a trial is called."""
    words = f"Trial {trial.number}"
    if "iteration" in trial.spec.memo:
        words += f", iteration {trial.spec.memo['iteration']}"
    return words + (": the final network" if trial.spec.purpose == "final" else "")


# -------------------------------------------------------------------------------------------------------------------- charts
def colours(trials: Sequence[Trial]) -> dict[int, str]:
    """A colour for each trained trial: a ramp in the order of their numbers, and the final one's own."""
    search = [trial.number for trial in trained(trials) if trial.spec.purpose != "final"]
    found = {number: ramp(place / max(1, len(search) - 1)) for place, number in enumerate(search)}
    return found | {trial.number: FINAL for trial in trials if trial.spec.purpose == "final"}


def curves(trials: Sequence[Trial]) -> list[str]:
    """Training loss and validation accuracy over the steps of each trial's chain."""
    colour = colours(trials)
    loss: list[Line] = []
    accuracy: list[Line] = []
    for trial in trained(trials):
        if trial.result is None:
            continue
        name, final = str(trial.number), trial.spec.purpose == "final"
        points = trial.result.curve
        loss.append(Line(name, colour[trial.number], [(p.step, p.loss) for p in points], final))
        read = {p.step: 100 * p.accuracy for p in points if p.accuracy is not None}
        if points and trial.result.failure is None and trial.result.accuracy >= 0:
            read[points[-1].step] = 100 * trial.result.accuracy
        accuracy.append(Line(name, colour[trial.number], sorted(read.items()), final))
    charts = [
        line_chart("Training loss", "optimizer step", loss),
        line_chart("Validation accuracy", "optimizer step", accuracy, percent=True),
    ]
    return [chart for chart in charts if chart]


def front_charts(experiment: Experiment, trials: Sequence[Trial]) -> list[str]:
    """The first objective against each other one, of the search trials within the limits; those of the front are green."""
    first, *others = experiment.problem.objectives
    best = {point["trial"] for point in front(experiment, trials)}
    search = [t for t in trained(trials) if t.spec.purpose == "search" and usable(t)]
    charts = []
    for other in others:
        dots = []
        for trial in search:
            if trial.result is None:
                continue
            place = _shown_as(trial.result, other.metric), _shown_as(trial.result, first.metric)
            tip = f"trial {trial.number}: {first.metric} {place[1]:,.4g}, {other.metric} {place[0]:,.4g}"
            found = trial.number in best
            dots.append(Dot(str(trial.number), FINAL if found else QUIET, place, tip, found))
        title = f"{first.direction} {first.metric}, {other.direction} {other.metric}"
        percent = first.metric == "accuracy"
        charts.append(dot_chart(title, other.metric, dots, percent=percent, least=False))
    return [chart for chart in charts if chart]


def _shown_as(result: Result, metric: Metric) -> float:
    return measured(result, metric) * (100.0 if metric == "accuracy" else 1.0)


def cost_charts(trials: Sequence[Trial]) -> list[str]:
    """Validation accuracy against the seconds spent until then, and against the parameters."""
    colour = colours(trials)
    spent = 0.0
    by: dict[str, list[Dot]] = {"seconds": [], "parameters": []}
    for trial in trained(trials):
        if trial.result is None:
            continue
        spent += trial.result.cost.seconds
        if trial.result.failure is not None or trial.result.accuracy < 0:
            continue
        height = 100 * trial.result.accuracy
        costs = {"seconds": spent, "parameters": trial.result.parameters}
        for name, value in costs.items():
            tip = f"trial {trial.number}: {height:.2f} % at {value:,.0f} {name}"
            final = trial.spec.purpose == "final"
            by[name].append(Dot(str(trial.number), colour[trial.number], (value, height), tip, final))
    charts = [
        dot_chart("Accuracy against seconds spent so far", "seconds", by["seconds"], percent=True),
        dot_chart("Accuracy against size", "parameters", by["parameters"], percent=True),
    ]
    return [chart for chart in charts if chart]

"""What a comparison leaves: Markdown, CSV, JSON, plots, and a page with everything in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amla import artifacts
from amla.exporters.diagram import diagram
from amla.reports.comparison import Arm, Comparison, Member
from amla.reports.comparison_table import columns, csv_text, footnotes, markdown, table
from amla.reports.plots import colours, plots
from amla.reports.report import template
from amla.spec.trial import Trial

#: What each plot is called.
TITLES = {"anytime": "Anytime curves", "cost": "Accuracy against total cost", "pareto": "Pareto fronts"}


def write_comparison(found: Comparison, arms: Sequence[Arm], folder: Path, command: str) -> list[Path]:
    """Write ``NAME.md``, ``.csv``, ``.json``, ``.html`` and ``NAME-PLOT.svg``; ``command`` is what made them. Returns where
    they are. Errors: ``PluginError`` where matplotlib is not installed."""
    drawn = plots(arms)
    pictures = "\n".join(f"![{TITLES[name]}]({found.name}-{name}.svg)\n" for name in drawn)
    files = {
        ".md": f"{markdown(found)}\n{pictures}\nMade by `{command}`.\n",
        ".csv": csv_text(found),
        ".json": found.to_json(indent=2) + "\n",
        ".html": page(found, arms, drawn, command),
        **{f"-{name}.svg": text for name, text in drawn.items()},
    }
    for ending, text in files.items():
        artifacts.write(str(folder), f"{found.name}{ending}", text.encode())
    return [folder / f"{found.name}{ending}" for ending in files]


def page(found: Comparison, arms: Sequence[Arm], drawn: dict[str, str], command: str) -> str:
    """Everything in one HTML file that needs nothing from outside."""
    return template("comparison.html").render(
        comparison=found,
        columns=columns(found),
        rows=table(found),
        notes=footnotes(found),
        colours=colours([arm for arm in arms if arm.members]),
        plots=[(TITLES[name], name, svg) for name, svg in drawn.items()],
        networks=networks(arms, found.baseline),
        command=command,
    )


def networks(arms: Sequence[Arm], baseline: str | None) -> list[tuple[str, str]]:
    """(name of the arm, diagram of its network that is best on validation), each compared with the baseline's, or else with
    the first one's, where both are of the same kind."""
    best = {arm.name: max(arm.members, key=_accuracy) for arm in arms if arm.members}
    other = best.get(baseline or "", next(iter(best.values())))
    return [(name, _picture(name, member, other)) for name, member in best.items()]


def _accuracy(member: Member) -> float:
    return member.final.result.accuracy if member.final.result else -1.0


def _picture(name: str, member: Member, other: Member) -> str:
    final: Trial = member.final
    problem = member.experiment.problem
    test = 100 * member.figures["test_accuracy"]
    return diagram(
        final.spec.architecture,
        problem.input_shape,
        problem.num_classes,
        parent=None if member is other else other.final.spec.architecture,
        title=f"{name}, seed {member.seed}",
        facts=f"validation {100 * _accuracy(member):.2f} %  ·  test {test:.2f} %",
    )

"""What a run leaves for people: the report, the diagrams, the experiment file, the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from amla import artifacts
from amla.engine.summary import final_trial, left_out
from amla.reports.figures import diagrams, picture
from amla.reports.report import write_report
from amla.spec.data import DatasetInfo
from amla.spec.experiment import Experiment
from amla.spec.trial import Trial

__all__ = ["diagrams", "experiment_yaml", "write_diagrams", "write_report", "write_run"]


def write_run(experiment: Experiment, trials: Sequence[Trial], info: DatasetInfo | None, folder: Path) -> list[Path]:
    """Write ``report.html``, ``diagram.svg`` (the final network) and ``diagrams/NUMBER.svg`` (each beside the one before
    it), ``experiment.yaml`` and ``architecture.json``. Returns where they are."""
    written = [write_report(experiment, trials, info, folder), *write_diagrams(experiment, trials, folder)]
    files = {"experiment.yaml": experiment_yaml(experiment, trials)}
    final = final_trial(trials)
    if final:
        files["architecture.json"] = final.spec.architecture.to_json(indent=2) + "\n"
    for name, text in files.items():
        artifacts.write(str(folder), name, text.encode())
    return [*written, *(folder / name for name in files)]


def write_diagrams(experiment: Experiment, trials: Sequence[Trial], folder: Path) -> list[Path]:
    """Write ``diagrams/NUMBER.svg`` of every network, compared with its predecessor, and ``diagram.svg`` of the final one."""
    written = []
    for number, text in diagrams(experiment, trials).items():
        artifacts.write(str(folder / "diagrams"), f"{number:04d}.svg", text.encode())
        written.append(folder / "diagrams" / f"{number:04d}.svg")
    final = final_trial(trials)
    if final:
        artifacts.write(str(folder), "diagram.svg", picture(experiment, final, None, experiment.name).encode())
        written.append(folder / "diagram.svg")
    return written


def experiment_yaml(experiment: Experiment, trials: Sequence[Trial] = ()) -> str:
    """The experiment as a file that runs it again, to the same result: what was chosen or measured is written out. Where the
    time budget cut the final training, the file says so and trains to the end."""
    problem = experiment.problem
    spec = experiment.spec.to_data()
    training = problem.training.to_data()
    if training["precision"] == "auto":
        training["precision"] = experiment.measured.get("dtype", "auto")
    resources = spec["resources"] | {"threads": spec["resources"]["threads"] or experiment.measured.get("threads", 0)}
    spec |= {
        "training": training,
        "budget": problem.budget.model_dump(exclude_none=True),
        "final_budget": problem.final_budget.model_dump(exclude_none=True),
        "space_settings": problem.space_settings,
        "resources": resources,
        "name": None,
        "time_budget": experiment.spec.time_budget if experiment.measured.get("simulated") else None,
    }
    if experiment.spec.exact_time and experiment.spec.time_budget:  # the clock decides again
        spec |= {"time_budget": experiment.spec.time_budget, "final_budget": experiment.spec.final_budget}
    text = yaml.safe_dump({key: value for key, value in spec.items() if value is not None}, sort_keys=False)
    left = left_out(trials)
    cut = f"# the time budget cut the final training by {left} steps; this file makes them too\n" if left else ""
    return f"# {experiment.id}: run it again with `amla run experiment.yaml`\n{cut}{text}"

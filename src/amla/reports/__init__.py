"""What a run leaves for people: the report, the diagrams, the experiment file, the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from amla import artifacts
from amla.reports.report import diagrams, write_report
from amla.spec.data import DatasetInfo
from amla.spec.experiment import Experiment
from amla.spec.trial import Trial

__all__ = ["experiment_yaml", "write_report", "write_run"]


def write_run(experiment: Experiment, trials: Sequence[Trial], info: DatasetInfo | None, folder: Path) -> list[Path]:
    """Write ``report.html``, ``diagram.svg`` (the final network) and ``diagrams/NUMBER.svg``, ``experiment.yaml`` and
    ``architecture.json``. Returns where they are."""
    written = [write_report(experiment, trials, info, folder)]
    for number, picture in diagrams(experiment, trials).items():
        artifacts.write(str(folder / "diagrams"), f"{number:04d}.svg", picture.encode())
        written.append(folder / "diagrams" / f"{number:04d}.svg")
    final = [trial for trial in trials if trial.spec.purpose == "final" and trial.state == "done"]
    if final:
        picture = diagrams(experiment, trials)[final[-1].number]
        architecture = final[-1].spec.architecture.model_dump_json(indent=2)
        artifacts.write(str(folder), "diagram.svg", picture.encode())
        artifacts.write(str(folder), "architecture.json", architecture.encode())
        written += [folder / "diagram.svg", folder / "architecture.json"]
    artifacts.write(str(folder), "experiment.yaml", experiment_yaml(experiment).encode())
    return [*written, folder / "experiment.yaml"]


def experiment_yaml(experiment: Experiment) -> str:
    """The experiment as a file that runs it again, to the same result: what was chosen or measured is written out."""
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
        "time_budget": None,
    }
    text = yaml.safe_dump({key: value for key, value in spec.items() if value is not None}, sort_keys=False)
    return f"# {experiment.id}: run it again with `amla run experiment.yaml`\n{text}"

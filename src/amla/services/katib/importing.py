"""A finished Experiment of Katib's, brought into our store: its networks can then be reported, compared, drawn, exported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from amla import api, artifacts, datasets, reports
from amla.engine.store import Store
from amla.engine.summary import final_trial
from amla.errors import SpecError
from amla.exporters.base import Model
from amla.exporters.folder import WEIGHTS, read_weights
from amla.exporters.source import FILE, network_source
from amla.services.katib import crd
from amla.services.katib.history import Past, past_of
from amla.services.katib.setup import Setup, setup_of
from amla.spec.data import DatasetSpec
from amla.spec.experiment import Experiment
from amla.spec.trial import Trial


class Found(NamedTuple):
    """An Experiment out of its resources."""

    setup: Setup
    past: list[Past]
    dataset: DatasetSpec


def read(text: str) -> Found:
    """``kubectl get experiment,trials -o json``: a list of resources. Errors: ``SpecError``, ``ConfigError``."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SpecError(f"not a JSON document: {error}") from None
    items = document.get("items", [document]) if isinstance(document, Mapping) else []
    experiments = [item for item in items if item.get("kind") == "Experiment"]
    if len(experiments) != 1:
        raise SpecError(
            f"{len(experiments)} Experiments: give one and its Trials, by `kubectl get experiment/NAME trials "
            "-l katib.kubeflow.org/experiment=NAME -o json`"
        )
    setup = setup_of(crd.experiment_message(experiments[0]))
    trials = [crd.trial_message(item) for item in items if item.get("kind") == "Trial"]
    past = past_of([trial for trial in trials if trial is not None], setup)
    if not any(one.trial.finished for one in past):
        raise SpecError(f"{setup.name}: no Trial of it that AMLA suggested has ended")
    return Found(setup, past, _dataset(experiments[0]))


def store_it(found: Found, store: Store, folder: Path) -> tuple[Experiment, list[Trial]]:
    """The Experiment as a finished one of ours, under its own name or the first free one behind it."""
    setup = found.setup
    name = store.free_name(setup.name)
    spec = setup.spec.model_copy(update={"dataset": found.dataset, "name": name})
    experiment = Experiment(
        id=name,
        state="done",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        problem=setup.problem,
        folder=str(folder.absolute()),
        reason="imported from Katib",
    )
    store.create(experiment)
    for one in found.past:
        if one.trial.finished:
            store.add_trial(name, one.trial.model_copy(update={"state": "queued", "result": None}))
            store.transition(name, one.trial.number, "queued", one.trial.state, result=one.trial.result)
    return experiment, store.trials(name)


def write(found: Found, experiment: Experiment, trials: Sequence[Trial], shared: str | None) -> list[Path]:
    """Report, drawings and code of the network; its weights and ONNX too, where they stand in the shared artifacts."""
    folder, info = Path(experiment.folder), datasets.load(found.dataset).info
    folder.mkdir(parents=True, exist_ok=True)
    written = reports.write_run(experiment, trials, info, folder)
    final = final_trial(trials)
    if final is None:
        return written
    model = Model(architecture=final.spec.architecture, data=info)
    root = shared or found.setup.own.artifacts
    own = next(one.parcel.folder for one in found.past if one.trial.number == final.number)
    place = f"{root.rstrip('/')}/{found.setup.name}-{found.setup.fingerprint}/{own}" if root else None
    if place is not None and artifacts.read(place, WEIGHTS) is not None:
        return [*written, *api.export(model, read_weights(Path(place)), folder, api.EXPORTS)]
    artifacts.write(str(folder), FILE, network_source(model).encode())
    return [*written, folder / FILE]


def _dataset(experiment: Mapping[str, Any]) -> DatasetSpec:
    """The dataset that the trial template names. Errors: ``SpecError``."""
    text = json.dumps(experiment["spec"].get("trialTemplate", {}))
    for variable in _variables(json.loads(text)):
        if variable.get("name") == "AMLA_DATASET":
            value = str(variable["value"])
            return DatasetSpec.from_json(value) if value.startswith("{") else DatasetSpec(name=value)
    raise SpecError("the trial template has no AMLA_DATASET; it says which dataset the trials are trained on")


def _variables(value: Any) -> list[Mapping[str, Any]]:
    """Everything in a template that has a name and a value."""
    if isinstance(value, list):
        return [found for inner in value for found in _variables(inner)]
    if not isinstance(value, Mapping):
        return []
    here = [value] if isinstance(value.get("name"), str) and "value" in value else []
    return here + [found for inner in value.values() for found in _variables(inner)]

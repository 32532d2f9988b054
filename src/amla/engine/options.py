"""What a user types -> ``ExperimentSpec``. The command line, Python and experiment files share this one table, so that
every option is a key of the file and a parameter of ``amla.search``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from amla.errors import ConfigError, SpecError
from amla.spec.experiment import ExperimentSpec

#: Option -> where it stands in the spec. Options that are keys of the spec themselves are not listed.
SHORT: dict[str, str] = {
    "data_dir": "dataset.data_dir",
    "valid_fraction": "dataset.valid_fraction",
    "test_fraction": "dataset.test_fraction",
    "image_size": "dataset.image_size",
    "limit": "dataset.limit",
    "criterion": "settings.criterion",
    "mode": "settings.mode",
    "iterations": "settings.iterations",
    "weights": "settings.weights",
    "prune": "settings.branches",
    "width": "space_settings.width",
    "layers": "space_settings.layers",
    "max_layers": "space_settings.max_layers",
    "operations": "space_settings.operations",
    "skips": "space_settings.skips",
    "batch_size": "training.batch_size",
    "precision": "training.precision",
    "steps": "final_budget.steps",
    "epochs": "final_budget.epochs",
    "search_steps": "budget.steps",
    "search_epochs": "budget.epochs",
    "max_params": "limits.max_params",
    "max_flops": "limits.max_flops",
    "max_size_mb": "limits.max_size_mb",
    "max_latency_ms": "limits.max_latency_ms",
    "threads": "resources.threads",
}
#: Keys of an experiment file that say where it runs and what is shown, not what it is.
MANNER = ("store", "out", "quiet", "json")

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | float) -> float:
    """``90``, ``90s``, ``30m``, ``1h30m`` -> seconds. Errors: ``ConfigError``."""
    if isinstance(text, int | float):
        return float(text)
    whole = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", whole):
        return float(whole)
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", whole)
    if not parts or "".join(number + unit for number, unit in parts) != whole:
        raise ConfigError(f"{text!r} is no duration; write 90s, 30m or 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def spec_of(options: Mapping[str, Any]) -> ExperimentSpec:
    """The experiment that these options ask for; None means not said. Errors: ``ConfigError`` naming the option."""
    said = {key: value for key, value in options.items() if value is not None}
    known = sorted([*SHORT, *ExperimentSpec.model_fields])
    unknown = next((key for key in said if key not in known), None)
    if unknown is not None:
        raise ConfigError(f"{unknown}: no such option; there are {', '.join(known)}")
    if "dataset" not in said:
        raise ConfigError("dataset: which one? `amla datasets` lists them")
    document: dict[str, Any] = {}
    if isinstance(said["dataset"], str):
        said["dataset"] = {"name": said["dataset"]}
    for key, value in said.items():
        if key in ExperimentSpec.model_fields:
            document[key] = dict(value) if isinstance(value, Mapping) else value
    for key, value in said.items():
        if key in SHORT:
            part, name = SHORT[key].split(".")
            document.setdefault(part, {})[name] = value
    if isinstance(document.get("objectives"), str):
        document["objectives"] = [document["objectives"]]
    if isinstance(document.get("hyperparameters"), Mapping):
        document["hyperparameters"] = dict(_flat(document["hyperparameters"]))
    if "time_budget" in document:
        document["time_budget"] = seconds(document["time_budget"])
    document["dataset"].setdefault("seed", document.get("seed", 0))
    try:
        return ExperimentSpec.parse(document)
    except SpecError as error:
        raise ConfigError(str(error).removeprefix("ExperimentSpec: ")) from None


def with_settings(options: dict[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """The options with ``--set KEY=VALUE`` put in: dots go down into a key, values are YAML. Errors: ``ConfigError``."""
    merged: dict[str, Any] = json.loads(json.dumps(options))
    for assignment in assignments or ():
        key, sign, text = assignment.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--set {assignment}: write KEY=VALUE")
        place = merged
        *above, last = key.strip().split(".")
        for part in above:
            inner = place.setdefault(part, {})
            if isinstance(inner, str):
                inner = place[part] = {"name": inner}
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {assignment}: {part} is a value, not a group of keys")
            place = inner
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {assignment}: the value is not YAML") from None
    return merged


def _flat(hyperparameters: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Groups of hyperparameters as names with dots: ``--set`` goes down into ``hyperparameters.schedule.rate`` key by key."""
    for name, value in hyperparameters.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, Mapping) for inner in value.values()):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value

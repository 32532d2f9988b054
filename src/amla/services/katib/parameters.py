"""Katib's parameters as hyperparameters of ours, and back as texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from pydantic import JsonValue

from amla.errors import ConfigError
from amla.services.katib.wire import ENUMS
from amla.spec.hyperparameters import value_of
from amla.spec.training import Training

#: What every suggestion carries. In an Experiment with ``parameters`` they are placeholders: categories without a meaning.
CARRIED = ("architecture", "trial", "number", "chain", "iteration", "parent")
#: Value, as JSON text -> how Katib spells it.
Texts = dict[str, str]
#: A grid of a double has at most so many values.
FINE = 1000


def read(specs: Iterable[Any]) -> tuple[dict[str, Any], dict[str, Texts]]:
    """Name -> hyperparameter, as data, and the spelling of those that are choices. Errors: ``ConfigError``."""
    found: dict[str, Any] = {}
    texts: dict[str, Texts] = {}
    for spec in specs:
        if spec.name in CARRIED:
            continue
        options = _options(spec)
        if options is None:
            found[spec.name] = _range(spec)
        else:
            values = [_value(spec.name, option) for option in options]
            texts[spec.name] = {repr(value): option for value, option in zip(values, options, strict=True)}
            found[spec.name] = {"kind": "choice", "options": values}
    return found, texts


def written(training: Training, names: Iterable[str], texts: Mapping[str, Texts]) -> dict[str, str]:
    """Name -> the text of the value that a training has, as Katib spells it."""
    found = {}
    for name in names:
        value = value_of(training, name)
        found[name] = texts.get(name, {}).get(repr(value), str(value))
    return found


def _options(spec: Any) -> Sequence[str] | None:
    """The values of a parameter, where they can be counted."""
    kind, space = ENUMS["ParameterType"][spec.parameter_type], spec.feasible_space
    if kind in ("DISCRETE", "CATEGORICAL"):
        if not space.list:
            raise ConfigError(f"parameters: {spec.name} has an empty list")
        return list(space.list)
    if not space.step or (kind == "INT" and float(space.step) == 1.0):
        return None
    low, high, step = (_number(spec.name, text) for text in (space.min, space.max, space.step))
    if step <= 0.0 or low > high or (high - low) / step > FINE:
        raise ConfigError(f"parameters: {spec.name} has a step of {space.step} from {space.min} to {space.max}")
    grid = np.arange(low, high + step * 1e-6, step)
    return [str(round(value)) if kind == "INT" else repr(round(float(value), 12)) for value in grid]


def _range(spec: Any) -> dict[str, JsonValue]:
    kind, space = ENUMS["ParameterType"][spec.parameter_type], spec.feasible_space
    distribution = ENUMS["Distribution"][space.distribution]
    if kind not in ("DOUBLE", "INT"):
        raise ConfigError(f"parameters: {spec.name} has no parameterType")
    if distribution in ("NORMAL", "LOG_NORMAL"):
        raise ConfigError(f"parameters: {spec.name} is to be {distribution.lower()}; take uniform or logUniform")
    low, high = _number(spec.name, space.min), _number(spec.name, space.max)
    log = distribution == "LOG_UNIFORM"
    if kind == "INT":
        return {"kind": "integer", "low": int(low), "high": int(high), "log": log}
    return {"kind": "real", "low": low, "high": high, "log": log}


def _value(name: str, text: str) -> JsonValue:
    try:
        value: JsonValue = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"parameters: {name} has the value {text!r}, which is not YAML") from None
    return value


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"parameters: {name} has a bound {text!r} that is no number") from None

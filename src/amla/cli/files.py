"""Experiment files: YAML of today, and the JSON task files of AMLA 0.x."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
import yaml

from amla.engine.options import MANNER, SHORT, spec_of, with_settings
from amla.errors import ConfigError, SpecError
from amla.spec import amla0
from amla.spec.experiment import ExperimentSpec


def read_experiment(
    file: Path, overrides: dict[str, Any], assignments: list[str] | None
) -> tuple[ExperimentSpec, dict[str, Any]]:
    """The spec of a file with what the command line says put over it, and its other keys (``store``, ``out``, ``quiet``,
    ``json``).

    Warnings about a task file of AMLA 0.x go to standard error. Errors: ``ConfigError``, ``SpecError``.
    """
    text = read_text(file)
    said = {key: value for key, value in overrides.items() if value is not None}
    old = _task(text) if file.suffix == ".json" else None
    if old is not None:
        spec, warnings = amla0.convert(old)
        for warning in warnings:
            typer.echo(f"amla: {file.name}: {warning}", err=True)
        document: dict[str, Any] = spec.to_data()
    else:
        document = _mapping(text, file.name)
    manner = {key: document.pop(key) for key in MANNER if key in document}
    _clear(document, said)
    return spec_of(with_settings(document | said, assignments)), manner


def read_text(file: Path) -> str:
    """A file as UTF-8. Errors: ``ConfigError`` where it is not; ``OSError`` as usual."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a text file") from None


def _task(text: str) -> dict[str, Any] | None:
    """The data of a task file of AMLA 0.x; None where it is an experiment of today."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SpecError(f"not a JSON document: {error}") from None
    kind = amla0.recognise(data)
    if kind == "system":
        raise ConfigError(
            "this is a system.json of AMLA 0.x: there is nothing in it to run; `amla convert` explains it"
        )
    return data if kind == "task" else None


def _mapping(text: str, name: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: an experiment file is a mapping of options, such as `dataset: digits`")
    return {str(key): value for key, value in document.items()}


def _clear(document: dict[str, Any], said: dict[str, Any]) -> None:
    """A budget given on the command line replaces the file's, whatever its unit."""
    for key in said:
        part = SHORT.get(key, "").split(".")[0]
        if part in ("budget", "final_budget"):
            document.pop(part, None)
            for other, place in SHORT.items():
                if place.startswith(f"{part}."):
                    document.pop(other, None)

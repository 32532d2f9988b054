"""Every option of the commands that train is a key of an experiment file, by the commands as they are."""

import inspect
from pathlib import Path

import click
import pytest
import typer
import yaml

from amla.cli.app import app
from amla.cli.files import read_experiment
from amla.engine.options import MANNER, SHORT
from amla.spec.experiment import ExperimentSpec

#: A value of an option that suits it, where that of its type does not.
VALUES = {"time_budget": "90s", "criterion": "taylor", "mode": "afresh", "precision": "float32", "executor": "process"}
OF_TYPE = {"integer": 6, "float": 1.5, "boolean": True, "text": "words", "path": "there"}


def options(command: str) -> list[click.Parameter]:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    return [
        parameter
        for parameter in group.commands[command].params
        if parameter.param_type_name == "option" and parameter.name not in ("help", "assignments")
    ]


def key_of(option: click.Parameter) -> str:
    """The first long name with underscores: ``--batch-size`` is ``batch_size``."""
    return next(name for name in option.opts if name.startswith("--")).removeprefix("--").replace("-", "_")


CASES = [(command, option) for command in ("search", "run", "train") for option in options(command)]


@pytest.mark.parametrize(("command", "option"), CASES, ids=[f"{c} {o.opts[0]}" for c, o in CASES])
def test_an_option_is_a_key_of_the_file(tmp_path: Path, command: str, option: click.Parameter) -> None:
    key = key_of(option)
    value = VALUES.get(key, OF_TYPE[option.type.name])
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump({"dataset": "digits", key: value}))
    spec, manner = read_experiment(file, {}, None)
    if key in MANNER:
        assert manner == {key: value}
        return
    document = spec.to_data()
    for part in SHORT.get(key, key).split("."):
        document = document[part]
    assert document == (90.0 if key == "time_budget" else value)


def test_the_options_of_search_are_not_lost_on_the_way() -> None:
    assert {key_of(option) for command, option in CASES if command == "search"} >= {"width", "jobs", "store", "json"}
    assert set(SHORT) | set(ExperimentSpec.model_fields) >= {key_of(option) for _, option in CASES} - set(MANNER)


def test_run_overrides_by_every_option_that_it_has() -> None:
    """``run`` passes its options on by name: none is forgotten."""
    from amla.cli import runs

    source = inspect.getsource(runs.run)
    names = {option.name for option in options("run")} - {"out", "store", "quiet", "as_json"}
    assert all(f'"{name}": {name}' in source for name in names)

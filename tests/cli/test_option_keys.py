"""Every option of the commands that train is a key of an experiment file, by the commands as they are."""

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.models import OptionInfo

from amla.cli import runs
from amla.cli.app import app
from amla.cli.files import read_experiment
from amla.engine.options import MANNER, SHORT
from amla.spec.experiment import ExperimentSpec

#: A value that suits an option, where that of its type does not.
VALUES: dict[str, Any] = {
    "time_budget": "90s",
    "criterion": "taylor",
    "mode": "afresh",
    "precision": "float32",
    "executor": "process",
    "objectives": ["accuracy", "flops"],
}
OF_TYPE: dict[Any, Any] = {int: 6, float: 1.5, bool: True, str: "words", Path: "there"}


def options(command: str) -> dict[str, tuple[str, type]]:
    """Parameter of the command's function -> (the option as a key, its type); ``--set`` is no key itself."""
    (function,) = (
        entry.callback for entry in app.registered_commands if entry.callback and entry.callback.__name__ == command
    )
    found = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind, info = typing.get_args(parameter.annotation)[:2]
        if not isinstance(info, OptionInfo):
            continue
        # in an annotation, the first word stands where a default would
        words = [str(word) for word in (info.default, *(info.param_decls or ())) if str(word).startswith("--")]
        if words != ["--set"]:
            spelled = words[0] if words else name
            plain = next(part for part in (*typing.get_args(kind), kind) if part is not type(None))
            found[name] = (spelled.removeprefix("--").replace("-", "_"), plain)
    return found


#: Options that may be given several times: the key is their plural, and holds a list.
REPEATED = {"objective": "objectives"}
CASES = [
    (command, REPEATED.get(key, key), kind)
    for command in ("search", "run", "train")
    for key, kind in options(command).values()
]


@pytest.mark.parametrize(("command", "key", "kind"), CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_an_option_is_a_key_of_the_file(tmp_path: Path, command: str, key: str, kind: type) -> None:
    value = VALUES[key] if key in VALUES else OF_TYPE[kind]
    file = tmp_path / f"{command}.yaml"
    file.write_text(yaml.safe_dump({"dataset": "digits", key: value}))
    spec, manner = read_experiment(file, {}, None)
    if key in MANNER:
        assert manner == {key: value}
        return
    document: Any = spec.to_data()
    for part in SHORT.get(key, key).split("."):
        document = document[part]
    if key in REPEATED.values():
        document = [item["metric"] for item in document]
    assert document == (90.0 if key == "time_budget" else value)


def test_all_options_are_looked_at() -> None:
    found = {key for command, key, _ in CASES if command == "search"}
    assert found >= {"width", "jobs", "max_params", *MANNER}
    assert found <= {*SHORT, *ExperimentSpec.model_fields, *MANNER}


def test_run_passes_on_every_option_that_it_has() -> None:
    """What is typed goes over the file's keys one by one, by name: none may be forgotten."""
    source = inspect.getsource(runs.run)
    of_the_spec = [key for key, _ in options("run").values() if key not in MANNER]
    assert all(f'"{key}": {key},' in source for key in of_the_spec)

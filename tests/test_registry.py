"""Plug-ins by name and by import path."""

import pytest

from amla import registry
from amla.errors import PluginError
from amla.executors.inline import InlineExecutor


@pytest.mark.parametrize(
    "name", ["inline", "amla.executors.inline:InlineExecutor", "amla.executors.inline.InlineExecutor"]
)
def test_a_plug_in_has_a_name_or_an_import_path(name: str) -> None:
    assert registry.load("executors", name) is InlineExecutor


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("outline", "no executor is called 'outline'; there are: inline, process"),
        ("no.such:Thing", "there is no module 'no' here"),
        ("amla.executors.nothing:Thing", "there is no module 'amla.executors.nothing' here"),
        ("amla.executors.inline:Thing", "amla.executors.inline has no 'Thing'"),
        ("../x:y z", "no executor is called"),
        (":", "no executor is called"),
        (".", "no executor is called"),
    ],
)
def test_a_plug_in_that_is_not_there(name: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        registry.load("executors", name)

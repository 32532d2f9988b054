"""Searches with Keras, and one begun with one library and finished with the other, through the command line."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from typed import PINNED, TINY, call, command, environment

SMALL = ("--steps", "3", "--search-steps", "2", "--width", "6", "--limit", "128", "--set", "space_settings.layers=[1]")


#: Run first by every process that finds it: there is no torch.
WITHOUT_TORCH = """
import sys

class NoTorch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch)
"""


def searched(at: Path, *words: str) -> dict:
    done = call(
        "search", "digits", *SMALL, *PINNED, "--out", "run", "--store", "sqlite:///s.db", "--json", *words, at=at
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "last"), [("torch", "keras"), ("keras", "torch"), ("torch", "torch-compiled")])
def test_what_one_library_began_another_finishes(tmp_path: Path, first: str, last: str) -> None:
    found = searched(tmp_path, "--iterations", "1", "--trainer", first, "--final-trainer", last)
    assert found["state"] == "done"
    assert 0.0 <= found["test"]["accuracy"] <= 1.0
    assert ("network_keras.py" in found["artifacts"]) == (last == "keras")
    assert yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())["final_trainer"] == last
    # by default with the library that trained it, else with the one that is named: the same network
    own = json.loads(call("evaluate", "run", "--json", at=tmp_path).stdout)
    other = json.loads(call("evaluate", "run", "--trainer", first, "--json", at=tmp_path).stdout)
    assert own["accuracy"] == pytest.approx(found["test"]["accuracy"])
    assert other["loss"] == pytest.approx(own["loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("searcher", ["nac", "evolution", "random"])
def test_a_search_runs_unchanged_on_keras(tmp_path: Path, searcher: str) -> None:
    more = ("--iterations", "2") if searcher == "nac" else ("--trials", "3")
    assert searched(tmp_path, "--trainer", "keras", "--searcher", searcher, *more)["state"] == "done"


@pytest.mark.parametrize("searcher", ["darts", "enas", "zero_cost"])
def test_a_procedure_that_keras_has_not_is_named_with_the_trainer_that_has_it(tmp_path: Path, searcher: str) -> None:
    words = ("search", "digits", "--trainer", "keras", "--searcher", searcher, "--limit", "64", *SMALL[:4], *PINNED)
    done = call(*words, at=tmp_path, code=2)
    assert "the trainer 'keras' has no" in done.stderr
    assert "'torch' has" in done.stderr


@pytest.mark.slow
def test_keras_needs_no_torch(tmp_path: Path) -> None:
    """In processes of their own, none of which can import torch."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    words = command("search", *TINY, "--trainer", "keras", "--out", "run", "--store", "sqlite:///s.db", "--json")
    without = environment(PYTHONPATH=str(tmp_path))
    done = subprocess.run(words, cwd=tmp_path, env=without, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"

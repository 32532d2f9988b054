"""The example of a package with a searcher, installed by pip as anybody's would be."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typed import PINNED, call, environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "amla-annealing"
#: What building leaves behind, and is no part of the package.
LEAVINGS = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
INSTALL = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the package is installed: a folder to be put on the path. It is built from a copy, which builds leave files in."""
    place = tmp_path_factory.mktemp("example")
    copy = shutil.copytree(EXAMPLE, place / "source", ignore=LEAVINGS)
    python(*("-m", "pip", *INSTALL, "--target", place / "site", copy), at=place)
    return str(place / "site")


def python(*words, at, **more):
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=at, env=environment(**more), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_it_is_listed(installed, tmp_path):
    listed = json.loads(call("searchers", "--json", at=tmp_path, PYTHONPATH=installed).stdout)
    assert "annealing" in json.dumps(listed)
    assert "annealing" not in call("searchers", "--json", at=tmp_path).stdout


def test_its_own_tests_pass(installed, tmp_path):
    shutil.copy(EXAMPLE / "test_annealing.py", tmp_path)
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path)
    python(*words, at=tmp_path, PYTHONPATH=installed)


def test_it_searches(installed, tmp_path):
    small = ("--trials", 3, "--steps", 8, "--search-steps", 4, "--width", 6, "--limit", 200, *PINNED)
    layers = ("--set", "space_settings.layers=[1]")
    words = ("search", "digits", "--searcher", "annealing", *small, *layers, "--json")
    document = json.loads(call(*words, at=tmp_path, PYTHONPATH=installed).stdout)
    assert document["state"] == "done"

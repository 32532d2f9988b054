"""The examples in the documentation are true."""

import json
import re
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import jsonschema
import pytest
import yaml

from amla.spec.architecture import parse_architecture
from amla.spec.costs import parameters
from amla.spec.lower import lower

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS.parent / "examples" / "amla-annealing"


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"no {language} in {page}"
    return [textwrap.dedent(text) for text in found]


@pytest.mark.parametrize("text", blocks("spec.md", "json"))
def test_architectures(text):
    architecture = parse_architecture(text)
    assert parameters(lower(architecture, (3, 32, 32), 10)) > 0
    assert parse_architecture(architecture.to_json()) == architecture


def test_the_code_about_the_documents(tmp_path):
    for text in blocks("spec.md", "python"):
        subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)


def test_the_code_about_the_spaces(tmp_path):
    for text in blocks("spaces.md", "python"):
        subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)


def test_plug_ins(tmp_path):
    """Each block of extending.md is a file; together they are plug-ins with their conformance tests. Those of the example
    package are its files, which test_example_package tests."""
    for text in blocks("extending.md", "python"):
        name = re.match(r"# (\S+\.py)\n", text)
        assert name, text
        if (EXAMPLE / name.group(1)).exists():
            assert text[name.end() :] == (EXAMPLE / name.group(1)).read_text()
        else:
            (tmp_path / name.group(1)).write_text(text)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_example_package():
    """All of it that has to do with the searcher is in extending.md."""
    assert blocks("extending.md", "toml") == [(EXAMPLE / "pyproject.toml").read_text()]
    shown = [text.partition("\n")[0].removeprefix("# ") for text in blocks("extending.md", "python")]
    assert {path.name for path in EXAMPLE.glob("*.py")} <= set(shown)


def test_every_searcher_has_a_row():
    ours = {point.name for point in entry_points(group="amla.searchers") if point.value.startswith("amla.")}
    for page in (DOCS / "searchers.md", DOCS.parent / "README.md"):
        rows = re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE)
        assert ours <= set(rows), page.name


def test_the_document_of_a_search(finished):
    (schema,) = [json.loads(text) for text in blocks("cli.md", "json")]
    jsonschema.validate(finished.document, schema)


def test_the_experiment_file(amla, tmp_path):
    (text,) = blocks("cli.md", "yaml")
    assert yaml.safe_load(text)["dataset"] == "digits"
    (tmp_path / "quick.yaml").write_text(text)
    assert json.loads(amla("run", "quick.yaml", "--limit", 100, "--json").stdout)["state"] == "done"


def test_the_search_of_hyperparameters(amla, tmp_path):
    (text,) = blocks("hyperparameters.md", "yaml")
    (tmp_path / "rate.yaml").write_text(text)
    document = json.loads(amla("run", "rate.yaml", "--limit", 100, "--out", "run", "--name", "rate", "--json").stdout)
    values = document["best"]["hyperparameters"]
    assert list(values) == list(yaml.safe_load(text)["hyperparameters"])
    assert 0.01 <= values["schedule.rate"] <= 0.5
    assert 16 <= values["batch_size"] <= 64
    assert f"batch_size = {values['batch_size']}" in amla("experiments", "show", "rate").stdout
    assert "Hyperparameters searched" in (tmp_path / "run" / "report.html").read_text()


def test_links():
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"

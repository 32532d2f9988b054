"""``experiments``, ``searchers``, ``datasets``, ``schema``."""

import json
import shutil
import subprocess
import sys

import jsonschema

from amla import registry


def test_experiments_list(finished, amla):
    (found,) = json.loads(amla("experiments", "list", "--store", finished.store, "--json").stdout)
    assert found["id"] == finished.document["experiment"]
    assert (found["name"], found["state"]) == ("tiny", "done")
    assert found["test"] == finished.document["test"]
    assert found["id"] in amla("experiments", "list", AMLA_STORE=finished.store).stdout


def test_experiments_show(finished, amla):
    found = json.loads(amla("experiments", "show", "tiny", "--store", finished.store, "--json").stdout)
    assert found["best"] == finished.document["best"]
    assert [trial["spec"]["purpose"] for trial in found["trials"]] == ["search", "search", "final", "test"]
    assert "pruned" in found["trials"][1]["spec"]["memo"]
    assert "final" in amla("experiments", "show", "tiny", "--store", finished.store).stdout


def test_experiments_delete(finished, amla, tmp_path):
    shutil.copy(finished.place / "amla.db", tmp_path / "copy.db")
    store = f"sqlite:///{tmp_path / 'copy.db'}"
    assert json.loads(amla("experiments", "delete", "tiny", "--store", store, "--json").stdout) == {
        "deleted": finished.document["experiment"]
    }
    assert json.loads(amla("experiments", "list", "--store", store, "--json").stdout) == []
    assert (finished.folder / "report.html").exists()


def test_where_there_is_no_store_yet_there_are_no_experiments(amla, tmp_path):
    found = amla("experiments", "list", "--json")
    assert json.loads(found.stdout) == []
    assert "there is no store" in found.stderr
    assert not list(tmp_path.iterdir())


def test_searchers(amla):
    found = json.loads(amla("searchers", "--json").stdout)
    assert {searcher["name"] for searcher in found} == set(registry.names("searchers"))
    assert all(searcher["about"] for searcher in found)
    schema = json.loads(amla("searchers", "nac", "--json").stdout)
    assert schema["properties"]["max_prune"]["default"] == 6
    assert "criterion" in amla("searchers", "nac").stdout


def test_a_missing_library_hides_no_other_searcher(tmp_path):
    program = "import sys; sys.modules['optuna'] = None; from amla.cli import main; main(['searchers', '--json'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    about = {searcher["name"]: searcher["about"] for searcher in json.loads(done.stdout)}
    assert about.keys() == set(registry.names("searchers"))
    assert "pip install 'amla[tpe]'" in about["tpe"]


def test_spaces(amla):
    found = json.loads(amla("spaces", "--json").stdout)
    assert {space["name"] for space in found} == set(registry.names("spaces"))
    assert json.loads(amla("spaces", "nasbench201", "--json").stdout)["properties"]["cells"]["default"] == 5
    assert "halvings" in amla("spaces", "darts_cell").stdout


def test_datasets(amla):
    found = {dataset["name"] for dataset in json.loads(amla("datasets", "--json").stdout)}
    assert found == {"digits", "fashion-mnist", "cifar10", "cifar100", "folder", "parquet", "hf", "npz", "table"}


def test_schemas(finished, amla):
    schema = json.loads(amla("schema").stdout)
    assert schema == json.loads(amla("schema", "architecture", "--json").stdout)
    document = json.loads((finished.folder / "architecture.json").read_text())
    jsonschema.validate(document, schema)
    for name in ("graph", "experiment", "trial", "result"):
        jsonschema.Draft202012Validator.check_schema(json.loads(amla("schema", name).stdout))


def test_help_and_version(amla):
    assert "search" in amla("--help").stdout
    assert amla("--version").stdout.strip()
    for command in ("search", "run", "train", "resume", "stop", "evaluate", "predict", "export", "convert"):
        assert "--help" in amla(command, "--help").stdout

"""``amla search`` from a dataset to the folder that it leaves, and the same experiment by every road."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from safetensors.numpy import load_file
from typed import PINNED

import amla as amla_package
from amla.cli import runs
from amla.cli.files import read_experiment
from amla.engine.options import MANNER, SHORT
from amla.engine.rehearsal import make_searcher, rehearse
from amla.spec.experiment import ExperimentSpec, Problem

CONFIGS = Path(__file__).parents[2] / "configs"
ARTIFACTS = {
    "architecture.json",
    "diagram.svg",
    "experiment.yaml",
    "model.json",
    "model.onnx",
    "model.safetensors",
    "network.py",
    "report.html",
}


def test_the_document(finished):
    document = finished.document
    assert document["state"] == "done"
    assert document["name"] == "tiny"
    assert document["best"]["parameters"] > 0
    assert 0.0 <= document["test"]["accuracy"] <= 1.0
    assert set(document["seconds"]) == {"search", "selection", "final"}
    assert document["seconds"]["search"] > 0.0
    assert document["seconds"]["final"] > 0.0
    assert set(document["artifacts"]) == ARTIFACTS
    assert all(Path(path).is_file() for path in document["artifacts"].values())


def test_a_diagram_of_every_iteration(finished):
    diagrams = sorted(path.name for path in (finished.folder / "diagrams").iterdir())
    assert diagrams == ["0000.svg", "0001.svg", "0002.svg"]
    assert "pruned" in (finished.folder / "diagrams" / "0001.svg").read_text()


def test_the_network_leaves_as_plain_code(finished, tmp_path):
    source = finished.folder / "network.py"
    imports = {
        name.name.split(".")[0]
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert "amla" not in imports
    code = f"""
import sys
sys.modules["amla"] = None
sys.path.insert(0, {str(finished.folder)!r})
import numpy, torch, network
model = network.load({str(finished.folder / "model.safetensors")!r}).eval()
images = numpy.random.default_rng(0).random((4, 1, 8, 8), dtype=numpy.float32)
numpy.save("images.npy", images)
with torch.no_grad():
    numpy.save("logits.npy", model(torch.from_numpy(images)).numpy())
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    images, logits = np.load(tmp_path / "images.npy"), np.load(tmp_path / "logits.npy")
    session = onnxruntime.InferenceSession(finished.folder / "model.onnx")
    (found,) = session.run(["logits"], {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(found, logits, atol=1e-4)


def test_the_report_is_one_file(finished):
    text = (finished.folder / "report.html").read_text()
    assert 'src="http' not in text
    assert 'href="http' not in text
    for word in ("test accuracy", "selection", "CPU", "<svg"):
        assert word in text


def test_progress_goes_to_standard_error(amla):
    done = amla("search", "digits", "--steps", 4, "--search-steps", 2, "--iterations", 1, "--width", 6, "--limit", 60)
    assert "test accuracy" in done.stdout
    assert "report.html" in done.stdout.replace("\n", "")
    assert "trial" in done.stderr
    assert "parameters" in done.stderr


def test_quiet(amla):
    words = ("search", "digits", "--searcher", "envelope", "--steps", 2, "--width", 6, "--limit", 60, "--quiet")
    assert amla(*words).stderr == ""


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_the_same_experiment_from_its_file(finished, amla, tmp_path, executor):
    """The seed decides: by command line and by file, in one process and in many."""
    file = tmp_path / "again.yaml"
    document = yaml.safe_load((finished.folder / "experiment.yaml").read_text())
    file.write_text(yaml.safe_dump(document | {"executor": executor, "name": executor}))
    again = json.loads(amla("run", file, "--out", "run", "--json").stdout)
    assert again["name"] == executor
    assert again["best"] == finished.document["best"]
    assert again["test"] == finished.document["test"]
    same_weights(tmp_path / "run", finished.folder)


@pytest.mark.slow
def test_two_jobs_in_processes_end_as_one_in_this_process(amla, tmp_path):
    words = (
        "search", "digits", "--searcher", "random", "--trials", 3, "--steps", 6, "--search-steps", 3, "--width", 6,
        "--limit", 100, *PINNED, "--json",
    )  # fmt: skip
    one = json.loads(amla(*words, "--out", "one").stdout)
    two = json.loads(amla(*words, "--out", "two", "--jobs", 2, "--executor", "process").stdout)
    assert (two["trials"], two["best"], two["test"]) == (one["trials"], one["best"], one["test"])
    same_weights(tmp_path / "one", tmp_path / "two")


def test_the_same_experiment_by_python(finished, tmp_path):
    found = amla_package.search(
        "digits",
        steps=12,
        search_steps=4,
        iterations=2,
        width=6,
        limit=300,
        threads=1,
        precision="float32",
        store=f"sqlite:///{tmp_path / 'amla.db'}",
        out=tmp_path / "run",
    )
    assert found.test_accuracy == finished.document["test"]["accuracy"]
    same_weights(found.folder, finished.folder)


def same_weights(one: Path, other: Path) -> None:
    mine, its = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert mine.keys() == its.keys()
    assert all(np.array_equal(mine[name], its[name]) for name in mine)


def test_another_seed_is_another_experiment(finished, amla, tmp_path):
    amla("run", finished.folder / "experiment.yaml", "--seed", 1, "--out", "run", "--quiet")
    mine, its = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", finished.folder))
    assert any(mine[name].shape != its[name].shape or not np.array_equal(mine[name], its[name]) for name in mine)


def test_every_option_is_a_key_of_the_file(amla, tmp_path):
    """What the command line says and what a file says are the same words."""
    (tmp_path / "e.yaml").write_text(
        "dataset: digits\nsearcher: random\ntrials: 1\nwidth: 6\nsteps: 2\nlimit: 60\nsearch_steps: 1\n"
        "quiet: true\njson: true\nout: here\nstore: sqlite:///here.db\n"
    )
    done = amla("run", "e.yaml")
    found = json.loads(done.stdout)
    assert (found["searcher"], found["state"], found["trials"]) == ("random", "done", 3)
    assert done.stderr == ""
    assert (tmp_path / "here" / "report.html").exists()
    assert (tmp_path / "here.db").exists()


def test_the_options_are_the_keys():
    keys = {*SHORT, *ExperimentSpec.model_fields, *MANNER}
    options = set(inspect.signature(runs.search).parameters) - {"assignments", "as_json"}
    assert options <= keys


EXPERIMENTS = [file for file in sorted(CONFIGS.glob("*.yaml")) if not file.name.startswith("compare-")]


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_experiment_files_that_ship(file):
    spec, manner = read_experiment(file, {}, None)
    problem = Problem(
        space=spec.space, space_settings=spec.space_settings, input_shape=(3, 32, 32), num_classes=10, train_size=5000
    )
    assert rehearse(make_searcher(spec, problem), problem)
    assert manner == {}


def test_a_time_budget_is_kept(amla):
    alone = ("--threads", 1)  # as other tests run beside it
    found = json.loads(amla("search", "digits", "--time-budget", "20s", "--limit", 300, *alone, "--json").stdout)
    assert sum(found["seconds"].values()) <= 20.0


def test_two_objectives_have_a_front(amla, tmp_path):
    words = ("--searcher", "evolution", "--objective", "accuracy", "--objective", "parameters", "--trials", 4)
    small = ("--width", 12, "--limit", 100, "--search-steps", 2, "--steps", 2, "--name", "two", "--out", "run")
    found = json.loads(amla("search", "digits", *words, *small, *PINNED, "--json").stdout)
    shown = json.loads(amla("experiments", "show", "two", "--json").stdout)["trials"]
    figures = {
        t["number"]: (t["result"]["metrics"]["valid"]["accuracy"], t["result"]["parameters"])
        for t in shown
        if t["spec"]["purpose"] == "search"
    }
    front = {p["trial"]: (p["figures"]["accuracy"], p["figures"]["parameters"]) for p in found["front"]}
    assert front
    for number, (accuracy, parameters) in front.items():
        assert figures[number] == (accuracy, parameters)
        beaten = [f for f in figures.values() if f[0] >= accuracy and f[1] <= parameters and f != front[number]]
        assert not beaten
    assert "Pareto front" in (tmp_path / "run" / "report.html").read_text()


def test_nothing_is_made_where_only_something_is_read(complaint, tmp_path):
    for words in (("experiments", "show", "nothing"), ("evaluate", "nothing")):
        assert "no store" in complaint(*words)
    assert not list(tmp_path.iterdir())

"""Bad input: one line that says what and what to do, exit code 2, no traceback, and nothing half-written."""

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typed import command, environment

QUICK = ("--steps", 2, "--search-steps", 1, "--iterations", 1, "--width", 6)
TUNED = ("--searcher", "tpe", "--set")


def pictures(folder: Path, names: str, count: int = 12) -> None:
    rng = np.random.default_rng(0)
    for name in names.split():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{index}.png")


def nothing_was_begun(place: Path) -> bool:
    return not list(place.rglob("report.html")) and not list(place.rglob("trials"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "digit"), "digits"),
        (("search", "folder:nowhere"), "nowhere"),
        (("search", "parquet:nowhere"), "nowhere"),
        (("search", "npz:nowhere.npz"), "nowhere"),
        (("search", "cifar10", "--data-dir", "nowhere"), "nowhere"),
        (("search", "digits", "--searcher", "nack"), "nac"),
        (("search", "digits", "--criterion", "luck"), "criterion"),
        (("search", "digits", *TUNED, "hyperparameters.schedule.rat={kind: real, low: 0.1, high: 1}"), "schedule.rat"),
        (("search", "digits", *TUNED, "hyperparameters.ema={kind: real, low: 0.1, high: 2}"), "hyperparameters.ema"),
        (("search", "digits", *TUNED, "hyperparameters.ema={kind: real, low: 1, high: 0}"), "hyperparameters.ema"),
        (("search", "digits", *TUNED, "hyperparameters.batch_size={kind: real, low: 8, high: 64}"), "batch_size"),
        (("search", "digits", *TUNED, "settings.what=training"), "settings.what"),
        (("search", "digits", "--set", "hyperparameters.ema={kind: real, low: 0, high: 0.9}"), "'tpe'"),
        (("search", "digits", "--width", 3), "width"),
        (("search", "digits", "--width", 0), "width"),
        (("search", "digits", "--set", "settings.max_prunes=3"), "max_prunes"),
        (("search", "digits", "--set", "colour=3"), "colour"),
        (("search", "digits", "--set", "width"), "KEY=VALUE"),
        (("search", "digits", "--time-budget", "soon"), "soon"),
        (("search", "digits", "--time-budget", "1ms"), "duration"),
        (("search", "digits", "--max-params", 10), "max_params"),
        (("search", "digits", "--limit", 3), "limit"),
        (("search", "digits", "--trainer", "abacus"), "abacus"),
        (("search", "digits", "--executor", "abacus"), "abacus"),
        (("search", "digits", "--jobs", 0), "jobs"),
        (("search", "digits", "--seed", -1), "seed"),
        (("search", "digits", "--epochs", 0), "epochs"),
        (("search", "digits", "--store", "nonsense"), "store"),
        (("search", "digits", "--store", "postgresql://nobody@127.0.0.1:1/none"), "store"),
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "."), "folder"),
        (("train", "nowhere.json", "digits"), "nowhere.json"),
        (("resume", "nothing"), "no store"),
        (("search",), "Missing argument"),
        (("searc", "digits"), "Did you mean"),
        (("search", "digits", "--no-such-option"), "see `amla search --help`"),
        (("stop", "nothing"), "no store"),
        (("evaluate", "nothing"), "no store"),
        (("evaluate", "."), "experiment.yaml"),
        (("predict", "nothing", "a.png"), "no store"),
        (("export", "nothing"), "no store"),
        (("convert", "nowhere.json"), "nowhere.json"),
        (("experiments", "show", "nothing"), "no store"),
        (("experiments", "delete", "nothing"), "no store"),
        (("searchers", "nack"), "nac"),
        (("schema", "dream"), "dream"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_words(complaint, tmp_path, words, said):
    assert said in complaint(*words)
    assert nothing_was_begun(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("e.yaml", "dataset: digits\nwidht: 8\n", "widht"),
        ("e.yaml", "dataset: digits\nwidth: broad\n", "width"),
        ("e.yaml", "searcher: nac\n", "dataset"),
        ("e.yaml", "- digits\n", "mapping"),
        ("e.yaml", "dataset: [\n", "YAML"),
        ("e.json", "{", "JSON"),
        ("e.yaml", "dataset: digits\ntraining: {optimizer: {kind: luck}}\n", "optimizer"),
        ("e.yaml", "dataset: digits\ntraining: {batch_size: 0}\n", "batch_size"),
    ],
)
def test_experiment_files(complaint, tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    assert said in complaint("run", name)
    assert nothing_was_begun(tmp_path)


def test_one_class(complaint, tmp_path):
    pictures(tmp_path / "data", "cat")
    assert "one class" in complaint("search", "folder:data", *QUICK)


def test_an_unreadable_image(complaint, tmp_path):
    pictures(tmp_path / "data", "cat dog")
    (tmp_path / "data" / "cat" / "3.png").write_bytes(b"no image")
    assert str(Path("cat") / "3.png") in complaint("search", "folder:data", *QUICK)
    assert nothing_was_begun(tmp_path)


def test_an_unreadable_image_to_predict(finished, complaint, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    assert "a.png" in complaint("predict", finished.folder, "a.png")
    assert "b.png" in complaint("predict", finished.folder, "b.png")


@pytest.mark.parametrize("name", ["data.npz", "train.parquet"])
def test_a_corrupt_file(complaint, tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 and then nothing")
    source = f"npz:{name}" if name.endswith("npz") else "parquet:."
    assert name.split(".")[0] in complaint("search", source, *QUICK) or source == "parquet:."
    assert nothing_was_begun(tmp_path)


def test_another_dataset_than_the_networks(finished, complaint, tmp_path):
    pictures(tmp_path / "data", "cat dog")
    assert "image" in complaint("evaluate", finished.folder, "folder:data")


def test_a_folder_that_holds_a_run(finished, complaint):
    assert "--out" in complaint("search", "digits", *QUICK, "--out", finished.folder)


def test_a_store_of_another_version(finished, complaint, tmp_path):
    shutil.copy(finished.place / "amla.db", tmp_path / "new.db")
    with sqlite3.connect(tmp_path / "new.db") as store:
        store.execute("update amla_version set version_num = '9999'")
    store.close()
    assert "newer AMLA" in complaint("experiments", "list", "--store", f"sqlite:///{tmp_path / 'new.db'}")


def test_a_store_of_somebody_else(complaint, tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as store:
        store.execute("create table experiments (id text)")
    store.close()
    assert "--store" in complaint("experiments", "list", "--store", f"sqlite:///{tmp_path / 'other.db'}")


def test_a_file_that_is_no_store(complaint, tmp_path):
    (tmp_path / "old.db").write_text("not a database at all, but a letter" * 50)
    assert "old.db" in complaint("experiments", "list", "--store", f"sqlite:///{tmp_path / 'old.db'}")


def test_a_damaged_architecture(finished, complaint, tmp_path):
    document = json.loads((finished.folder / "architecture.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(document | {"version": 99}))
    assert "version" in complaint("train", "a.json", "digits")
    (tmp_path / "a.json").write_text(json.dumps({key: document[key] for key in document if key != "stages"}))
    assert "stages" in complaint("train", "a.json", "digits")


def test_debug_shows_the_traceback(amla):
    assert "Traceback" in amla("search", "digit", "--debug", code=1).stderr


READ_ONLY = Path("/sys/amla")  # nobody may write here, not even root


@pytest.mark.skipif(not READ_ONLY.parent.is_dir(), reason="needs /sys, which nobody may write to")
def test_a_read_only_folder(complaint, tmp_path):
    assert "--out" in complaint("search", "digits", *QUICK, "--out", READ_ONLY)
    assert "store" in complaint("search", "digits", *QUICK, "--store", f"sqlite:///{READ_ONLY}/amla.db")


def test_a_full_disk(tmp_path, amla):
    """A limit on the size of files stands for it: either way the system refuses to write more. With room again, it goes on."""

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        command("search", "digits", *QUICK, "--width", 48, "--limit", 300, "--name", "full", "--json"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=small,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    folders = [path.parent.name for path in tmp_path.rglob("state.safetensors")]
    assert folders == [], "half a checkpoint was left"
    assert "amla resume" in done.stderr
    resumed = json.loads(amla("resume", "full", "--json").stdout)
    assert resumed["state"] == "done"
    assert resumed["test"]["accuracy"] >= 0.0
    assert Path(resumed["artifacts"]["model.onnx"]).is_file()


@pytest.mark.parametrize(("trainer", "library"), [("torch", "torch"), ("keras", "keras")])
def test_a_missing_library(tmp_path, trainer, library):
    """Said before anything is made, in a process that has imported nothing yet."""
    program = (
        f"import sys; sys.modules[{library!r}] = None; from amla.cli import main; "
        f"main(['search', 'digits', '--trainer', {trainer!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert f"pip install 'amla[{trainer}]'" in line
    assert not list(tmp_path.iterdir())

"""``evaluate``, ``predict``, ``export``, ``convert`` and ``train``: what is done with a network that was found."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

#: Enough for a network to tell two plain kinds of pictures apart.
LEARNS = ("--width", 6, "--epochs", 12, "--search-steps", 2, "--iterations", 1)


@pytest.fixture(scope="module")
def digit_files(tmp_path_factory) -> list[Path]:
    """Some of scikit-learn's digits as PNG files."""
    folder = tmp_path_factory.mktemp("digits")
    images = (load_digits().images[:5] * (255 / 16)).astype(np.uint8)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def test_evaluate_reads_what_the_search_read(finished, amla):
    found = json.loads(amla("evaluate", finished.folder, "--json").stdout)
    assert found["split"] == "test"
    assert found["accuracy"] == pytest.approx(finished.document["test"]["accuracy"])
    assert found["loss"] == pytest.approx(finished.document["test"]["loss"], rel=1e-4)


def test_evaluate_by_name_and_split(finished, amla):
    done = amla("evaluate", "tiny", "--split", "valid", "--store", finished.store)
    assert done.stdout.startswith("valid: accuracy ")


def test_predict(finished, amla, digit_files):
    found = json.loads(amla("predict", finished.folder, *digit_files, "--json").stdout)
    assert [answer["file"] for answer in found] == [str(path) for path in digit_files]
    assert {answer["class"] for answer in found} <= set("0123456789")
    lines = amla("predict", "tiny", digit_files[0], "--store", finished.store).stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{digit_files[0]}: {found[0]['class']} (")


def test_export(finished, amla, tmp_path):
    written = json.loads(amla("export", finished.folder, "--format", "onnx", "--out", "there", "--json").stdout)
    assert "there/model.onnx" in written
    assert (tmp_path / "there" / "model.onnx").read_bytes() == (finished.folder / "model.onnx").read_bytes()


def test_train_a_network_that_was_found(finished, amla, tmp_path):
    shutil.copy(finished.folder / "architecture.json", tmp_path)
    words = (
        "train",
        "architecture.json",
        "digits",
        "--steps",
        3,
        "--limit",
        60,
        "--threads",
        1,
        "--out",
        "run",
        "--json",
    )
    found = json.loads(amla(*words).stdout)
    assert found["searcher"] == "fixed"
    assert found["best"]["parameters"] == finished.document["best"]["parameters"]
    assert (
        load_file(tmp_path / "run" / "model.safetensors").keys()
        == load_file(finished.folder / "model.safetensors").keys()
    )


def test_a_network_in_onnx_is_trained_further_and_pruned(finished, amla, tmp_path):
    amla("convert", finished.folder / "model.onnx", "--out", "made")
    words = ("train", "made/architecture.json", "digits", "--weights", "made", "--limit", 60, "--steps", 3, "--json")
    held = json.loads(amla(*words, "--set", "training.schedule.rate=1e-9", "--out", "held").stdout)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("made", "held"))
    trained = [name for name in before if name.endswith(".weight")]
    assert all(np.allclose(before[name], after[name], atol=1e-5) for name in trained)
    found = json.loads(amla(*words, "--prune", 2, "--set", "budget.steps=2", "--out", "pruned").stdout)
    assert (held["searcher"], found["searcher"]) == ("fixed", "prune")
    assert found["best"]["parameters"] < held["best"]["parameters"]
    again = json.loads(amla("evaluate", "pruned", "--json").stdout)
    assert again["accuracy"] == found["test"]["accuracy"]
    names = [held["experiment"], found["experiment"]]
    told = json.loads(amla("compare", *names, "--anyway", "--out", "compared", "--json").stdout)
    assert {row["arm"] for row in told["rows"]} == {"fixed", "prune"}
    assert (tmp_path / "compared" / "comparison.html").exists()


def test_own_images_from_folders_to_predictions(amla, tmp_path):
    """Class names travel to the end."""
    rng = np.random.default_rng(0)
    for name, shade in (("cat", 40), ("dog", 210)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(30):
            size = (int(rng.integers(18, 30)), int(rng.integers(18, 30)), 3)
            pixels = np.clip(rng.normal(shade, 20, size), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{index}.jpg")
    words = (*LEARNS, "--image-size", 16, "--batch-size", 16)
    found = json.loads(amla("search", "folder:pets", *words, "--out", "run", "--json").stdout)
    assert found["test"]["accuracy"] == 1.0
    answers = json.loads(amla("predict", "run", "pets/cat/1.jpg", "pets/dog/1.jpg", "--json").stdout)
    assert [answer["class"] for answer in answers] == ["cat", "dog"]


def test_convert_a_task_file(amla, tmp_path, task_files):
    done = amla("convert", task_files / "config.nac.final.json", "--out", "new.yaml")
    assert "has no effect" in done.stderr
    document = yaml.safe_load((tmp_path / "new.yaml").read_text())
    assert document["searcher"] == "fixed"
    again = json.loads(amla("convert", task_files / "config.nac.final.json", "--json").stdout)
    assert again == document


def test_convert_recognises_a_system_file(amla, task_files):
    assert amla("convert", task_files / "system.json").stdout


def test_another_dataset_is_brought_to_the_size_of_the_network(finished, amla, tmp_path):
    rng = np.random.default_rng(0)
    for name in "0123456789":
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(12):
            picture = rng.integers(0, 256, (20, 14), np.uint8)
            Image.fromarray(picture).save(tmp_path / "data" / name / f"{index}.png")
    assert amla("evaluate", finished.folder, "folder:data").stdout.startswith("test: accuracy ")


def test_a_system_file_is_explained_in_json_too(amla, tmp_path):
    (tmp_path / "system.json").write_text('{"database": {"password": "secret"}, "services": ["train"]}')
    done = amla("convert", "system.json", "--json")
    assert "secret" not in done.stdout
    (first, *keys) = json.loads(done.stdout)
    assert first == "system.json of AMLA 0.x sets nothing here:"
    assert any(line.startswith("database: ") for line in keys)


def test_every_form_tells_the_same_class(finished, amla, digit_files, tmp_path):
    """``amla predict``, ``network.py`` in a Python without AMLA, and ``model.onnx``, on the same image files."""
    answers = json.loads(amla("predict", finished.folder, *digit_files, "--json").stdout)
    program = (
        "import runpy, sys; sys.modules['amla'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = [sys.executable, "-I", "-c", program, str(finished.folder / "network.py"), *map(str, digit_files)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.rsplit(" ", 2)[-2] for line in done.stdout.splitlines()] == [answer["class"] for answer in answers]
    pixels = np.stack([np.asarray(Image.open(path), np.float32)[None] / 255 for path in digit_files])
    session = onnxruntime.InferenceSession(finished.folder / "model.onnx")
    (logits,) = session.run(["logits"], {session.get_inputs()[0].name: pixels})
    assert [str(place) for place in logits.argmax(1)] == [answer["class"] for answer in answers]


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def odd_pictures(folder: Path, count: int) -> None:
    """Pictures of two shades, of many sizes and of every mode that a camera, a scanner or a drawing program writes."""
    rng = np.random.default_rng(count)
    for name, shade in (("dark", 50), ("light", 200)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            height, width = (int(side) for side in rng.integers(9, 40, 2))
            grey = np.clip(rng.normal(shade, 15, (height, width)), 0, 255).astype(np.uint8)
            image = Image.fromarray(grey)
            match index % 5:
                case 0:
                    image = image.convert("RGBA")
                case 1:
                    image = image.convert("RGB").quantize(16)
                case 2:
                    image = Image.fromarray(grey.astype(np.uint16) * 257)
                case 3:
                    image = image.convert("RGB")
            image.save(folder / name / f"{index}.png")


def test_a_folder_of_splits_with_pictures_of_every_kind(amla, tmp_path):
    for split, count in (("train", 20), ("valid", 5), ("test", 10)):
        odd_pictures(tmp_path / "data" / split, count)
    modes = {mode_of(path) for path in (tmp_path / "data" / "test").rglob("*.png")}
    assert modes == {"L", "RGB", "RGBA", "P", "I;16"}
    words = (*LEARNS, "--image-size", 12, "--batch-size", 8)
    found = json.loads(amla("search", "folder:data", *words, "--out", "run", "--json").stdout)
    assert found["test"]["accuracy"] == 1.0
    evaluated = json.loads(amla("evaluate", "run", "folder:data", "--json").stdout)
    assert evaluated["accuracy"] == 1.0
    files = [f"data/test/{name}/{index}.png" for name in ("dark", "light") for index in range(5)]
    answers = json.loads(amla("predict", "run", *files, "--json").stdout)
    assert [answer["class"] for answer in answers] == ["dark"] * 5 + ["light"] * 5

"""The forms in which a network leaves compute what the trained network computes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open

from amla.datasets.pixels import decode
from amla.errors import ExportError
from amla.exporters.diagram import DiagramExporter
from amla.exporters.folder import load_model
from amla.exporters.onnx import OnnxExporter, check, max_difference
from amla.exporters.source import SourceExporter, network_source
from amla.exporters.weights import SafetensorsExporter
from amla.spec.architecture import MacroArchitecture
from amla.testing.exporters import AnyArchitecture, ExporterSuite, example, model_of, random_weights
from amla.testing.strategies import OPERATIONS, architectures, input_shapes
from amla.trainers.torch.module import build

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


class TestSafetensors(ExporterSuite):
    exporter = SafetensorsExporter


class TestOnnx(ExporterSuite):
    exporter = OnnxExporter


class TestSource(ExporterSuite):
    exporter = SourceExporter


class TestDiagram(ExporterSuite):
    exporter = DiagramExporter
    uses_weights = False


def imported(path: Path) -> ModuleType:
    """The generated file as a module of its own."""
    module = ModuleType("network")
    module.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


def reference(model: Any, weights: Any, images: np.ndarray) -> np.ndarray:
    """Logits of the trainer's own module."""
    network = build(model.graph()).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    mean, std = (np.reshape(values, (1, -1, 1, 1)) for values in (model.data.mean, model.data.std))
    with torch.no_grad():
        return network(torch.from_numpy(((images - mean) / std).astype(np.float32)))[0].numpy()


def compare(model: Any, seed: int = 0) -> None:
    """Trainer, ONNX Runtime and network.py agree."""
    weights = random_weights(model.graph(), seed)
    images = np.random.default_rng(seed).random((3, *model.data.input_shape), np.float32)
    expected = reference(model, weights, images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for exporter in (SafetensorsExporter, OnnxExporter, SourceExporter):
            exporter().export(model, weights, folder)
        assert max_difference(folder / "model.onnx", images, expected) < 1e-4 * max(1.0, np.abs(expected).max())
        network = imported(folder / "network.py").load(folder / "model.safetensors")
    with torch.no_grad():
        found = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(architecture=architectures(), shape=input_shapes(9), seed=st.integers(0, 9))
def test_all_forms_compute_the_same(architecture: AnyArchitecture, shape: tuple[int, int, int], seed: int) -> None:
    compare(model_of(architecture, shape), seed)


def layered(operation: str, **more: Any) -> MacroArchitecture:
    layer = {"name": "layer1", "branches": [{"name": "branch1", "operation": operation, "channels": 4}], **more}
    stages = [{"name": "stage1", "layers": [layer]}]
    return MacroArchitecture.parse({"stem": [{"op": "conv", "channels": 4}], "stages": stages})


@pytest.mark.parametrize(
    "operation", [*OPERATIONS, "2x2", "4x4sep", "2x2avgpool", "4x4avgpool", "4x4maxpool", "2x2dil3"]
)
def test_every_operation(operation: str) -> None:
    compare(model_of(layered(operation), (3, 7, 6)))
    compare(model_of(layered(operation, skips=["stem"]), (3, 7, 6)))


@pytest.mark.parametrize("kind", ["relu", "relu6", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"])
def test_every_activation(kind: str) -> None:
    compare(
        model_of(
            layered("3x3").model_copy(update={"style": layered("3x3").style.model_copy(update={"activation": kind})})
        )
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 11])
def test_response_norm_of_any_window(size: int) -> None:
    stem = [{"op": "conv", "channels": 6}, {"op": "lrn", "size": size, "alpha": 0.5, "beta": 0.75, "bias": 2.0}]
    compare(model_of(MacroArchitecture.parse({**layered("3x3").to_data(), "stem": stem})))


@pytest.mark.parametrize(
    ("kind", "kernel", "stride"), [("avg", 2, 2), ("avg", 2, 1), ("max", 2, 2), ("max", 4, 3), ("avg", 5, 4)]
)
def test_poolings_at_odd_sides(kind: str, kernel: int, stride: int) -> None:
    pool = {"op": "pool", "kind": kind, "kernel": kernel, "stride": stride}
    document = layered("3x3").to_data()
    compare(model_of(MacroArchitecture.parse({**document, "stem": [*document["stem"], pool]}), (1, 7, 10)))


def test_names_that_python_keeps_for_itself(tmp_path: Path) -> None:
    layer = {"name": "module", "branches": [{"name": "x", "operation": "3x3", "channels": 4}]}
    twin = {
        "name": "module_x",
        "branches": [{"name": "class", "operation": "identity", "channels": 4}],
        "skips": ["stem"],
    }
    stages = [{"name": "add", "layers": [layer, twin]}, {"name": "1", "layers": [{**layer, "skips": ["add/module_x"]}]}]
    compare(model_of(MacroArchitecture.parse({"stem": [], "stages": stages}), (4, 5, 5)))


# --------------------------------------------------------------------------------------------------------- network.py itself
def test_the_code_is_formatted_and_clean(tmp_path: Path) -> None:
    """By construction, for networks of all kinds, with class names that need care."""

    @settings(max_examples=40)
    @given(
        architecture=architectures(small=False),
        shape=input_shapes(40),
        classes=st.lists(st.text(max_size=12), min_size=2, max_size=20, unique=True),
    )
    def write(architecture: AnyArchitecture, shape: tuple[int, int, int], classes: list[str]) -> None:
        code = network_source(model_of(architecture, shape, tuple(classes)))
        (tmp_path / f"network{len(list(tmp_path.iterdir()))}.py").write_text(code)

    write()
    for command in (["format", "--diff"], ["check", "--select", "E,F,W,I,UP,B,RET,SIM", "--no-cache"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[:4000]


def test_the_code_of_one_network(golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / "network.py.txt", network_source(example()))


def test_network_py_stands_alone(tmp_path: Path) -> None:
    """It classifies image files with nothing of amla in the process."""
    model = example()
    weights = random_weights(model.graph())
    for exporter in (SafetensorsExporter, SourceExporter):
        exporter().export(model, weights, tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "one.png")
    Image.fromarray(pixels).convert("RGBA").resize((40, 30)).save(tmp_path / "two.png")
    program = (
        "import runpy, sys; sys.argv = ['network.py', 'one.png', 'two.png']; "
        "runpy.run_path('network.py', run_name='__main__'); assert not [m for m in sys.modules if m.startswith('amla')]"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    images = pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    best = model.data.classes[int(reference(model, weights, images).argmax())]
    assert re.fullmatch(rf"one\.png: {best} \(\d+\.\d%\)", first)
    assert second.startswith("two.png: ")


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "clear.png", "grey.png", "exact.png"])
def test_network_py_reads_an_image_as_the_datasets_do(tmp_path: Path, name: str) -> None:
    size = (16, 16) if name == "exact.png" else (131, 77)
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 4 if name == "clear.png" else 3), np.uint8)
    image = Image.fromarray(pixels).resize(size)
    (image.convert("L") if name == "grey.png" else image).save(tmp_path / name)
    for channels in (1, 3):
        model = example().model_copy(update={"data": model_of(layered("3x3"), (channels, 16, 16)).data})
        (path,) = SourceExporter().export(model, random_weights(model.graph()), tmp_path)
        found = imported(path).read_image(tmp_path / name).permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(found, decode(name, str(tmp_path / name), 16, channels), atol=1e-3)


def test_loading_weights_of_another_network_fails(tmp_path: Path) -> None:
    SourceExporter().export(example(), random_weights(example().graph()), tmp_path)
    other = model_of(layered("3x3"), (3, 16, 16))
    SafetensorsExporter().export(other, random_weights(other.graph()), tmp_path)
    with pytest.raises(RuntimeError, match="Missing key"):
        imported(tmp_path / "network.py").load()


# ------------------------------------------------------------------------------------------------------ ONNX and safetensors
def test_onnx_gives_probabilities_and_says_what_they_are_of(tmp_path: Path) -> None:
    model = example()
    weights = random_weights(model.graph())
    (path,) = OnnxExporter().export(model, weights, tmp_path)
    proto = onnx.load(path)
    props = {prop.key: prop.value for prop in proto.metadata_props}
    assert json.loads(props["classes"]) == ["ant", "bee", "cicada"]
    assert json.loads(props["mean"]) == pytest.approx(model.data.mean)
    assert proto.producer_name == "amla"
    pixels = np.random.default_rng(2).integers(0, 256, (5, 16, 16, 3), np.uint8)
    logits = reference(model, weights, pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    shares = torch.from_numpy(logits).softmax(1).numpy()
    assert check(path, pixels, shares, 1e-4) < 1e-4
    with pytest.raises(ExportError, match="differ"):
        check(path, pixels, 1 - shares, 1e-4)
    assert max_difference(path, pixels.transpose(0, 3, 1, 2) / np.float32(255), logits * np.nan) == np.inf


def test_onnx_zero_does_not_let_nan_through(tmp_path: Path) -> None:
    """0 * inf would be NaN."""
    model = model_of(layered("zero"))
    weights = random_weights(model.graph())
    weights["stem/conv1/conv.weight" if "stem/conv1/conv.weight" in weights else next(iter(weights))][:] = np.inf
    (path,) = OnnxExporter().export(model, weights, tmp_path)
    images = np.ones((2, *model.data.input_shape), np.float32)
    bias = next(value for name, value in weights.items() if name.startswith("head") and name.endswith(".bias"))
    assert max_difference(path, images, np.tile(bias, (2, 1))) < 1e-6


def test_a_folder_is_read_back(tmp_path: Path) -> None:
    model = example()
    weights = random_weights(model.graph())
    SafetensorsExporter().export(model, weights, tmp_path)
    again, tensors = load_model(tmp_path)
    assert again == model
    assert not [name for name in tensors if name.startswith("auxiliary")]
    assert all(np.array_equal(value, weights[name]) for name, value in tensors.items())
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == list(model.data.classes)
    assert MacroArchitecture.from_json(metadata["architecture"]) == model.architecture


@pytest.mark.parametrize("lost", ["model.json", "model.safetensors"])
def test_a_folder_without_a_model_says_so(tmp_path: Path, lost: str) -> None:
    SafetensorsExporter().export(example(), random_weights(example().graph()), tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(ExportError, match=lost):
        load_model(tmp_path)

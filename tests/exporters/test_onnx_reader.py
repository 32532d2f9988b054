"""ONNX in: what we write is read back, and what is not of the vocabulary is named."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from onnx import TensorProto, helper, numpy_helper

from amla.errors import SpecError
from amla.exporters.base import Model, live_nodes
from amla.exporters.diagram import diagram
from amla.exporters.keras_source import keras_source
from amla.exporters.onnx import max_difference, onnx_model
from amla.exporters.onnx_reader import read_onnx
from amla.exporters.source import network_source
from amla.spec.architecture import GraphArchitecture, parse_architecture
from amla.spec.costs import costs
from amla.spec.data import DatasetInfo
from amla.spec.graph import weights
from amla.spec.lower import lower
from amla.testing.strategies import architectures
from amla.testing.trainers import network

INFO = DatasetInfo(
    name="made", shape=(8, 8, 3), classes=("a", "b", "c"), mean=(0.4,) * 3, std=(0.2,) * 3,
    sizes={"train": 9, "valid": 9, "test": 9},
)  # fmt: skip


def written(folder: Path, architecture: Any) -> tuple[Path, dict[str, np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(0)
    graph = lower(architecture, INFO.input_shape, INFO.num_classes).inference()
    tensors = {w.name: rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in weights(graph)}
    path = folder / "model.onnx"
    onnx.save(onnx_model(Model(architecture=architecture, data=INFO), tensors), str(path))
    return path, tensors


@settings(max_examples=10)
@given(architectures())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, architecture: Any) -> None:
    """Parameters and tensors; but for a GELU, which is spelt out in ONNX."""
    assume(architecture.style.activation != "gelu")
    path, tensors = written(tmp_path_factory.mktemp("onnx"), architecture)
    graph = lower(architecture, INFO.input_shape, INFO.num_classes).inference()
    read = read_onnx(path)
    live = {node.name for node in live_nodes(graph)}
    assert set(read.weights) == {name for name in tensors if name.rsplit(".", 1)[0] in live}
    for name, value in read.weights.items():
        assert np.array_equal(value, tensors[name]), name


def test_a_network_of_nac_is_read_back_whole(tmp_path: Path) -> None:
    architecture = network(3)
    path, tensors = written(tmp_path, architecture)
    graph = lower(architecture, INFO.input_shape, INFO.num_classes).inference()
    read = read_onnx(path)
    found, expected = costs(read.graph), costs(graph)
    assert (found.parameters, found.flops, found.depth) == (expected.parameters, expected.flops, expected.depth)
    assert all(np.array_equal(read.weights[name], value) for name, value in tensors.items())


def test_what_lies_outside_is_named_node_by_node(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["shrunk"], name="first", kernel_shape=[3, 3]),
        helper.make_node("HardSwish", ["x"], ["h"], name="second"),
        helper.make_node("Relu", ["h"], ["y"], name="third"),
    ]
    shape = ["batch", 3, 8, 8]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    made = helper.make_model(
        helper.make_graph(nodes, "n", values[:1], values[1:], [weight]), opset_imports=[helper.make_opsetid("", 17)]
    )
    path = tmp_path / "model.onnx"
    onnx.save(made, str(path))
    with pytest.raises(
        SpecError, match=r"first \(Conv: padded by \[0, 0, 0, 0\].*second \(HardSwish: there is no such"
    ) as e:
        read_onnx(path)
    assert "third" not in str(e.value)


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(SpecError, match="not an ONNX model"):
        read_onnx(tmp_path / "x.onnx")
    with pytest.raises(SpecError, match="not an ONNX model"):
        read_onnx(tmp_path / "absent.onnx")


def test_what_was_read_is_a_network_like_any_other(tmp_path: Path) -> None:
    """Its document goes round, it is drawn, and it leaves again as ONNX that computes the same."""
    path, _ = written(tmp_path, network(3))
    read = read_onnx(path)
    architecture = parse_architecture(GraphArchitecture(graph=read.graph).to_json())
    info = INFO.model_copy(update={"mean": read.mean, "std": read.std})
    assert (read.mean, read.std) == (pytest.approx(INFO.mean), pytest.approx(INFO.std))
    graph = lower(architecture, INFO.input_shape, INFO.num_classes)
    assert graph == read.graph
    with pytest.raises(SpecError, match="takes images of"):
        lower(architecture, (1, 8, 8), INFO.num_classes)
    assert diagram(architecture, INFO.input_shape, INFO.num_classes).startswith("<svg")
    model = Model(architecture=architecture, data=info)
    compile(network_source(model), "network.py", "exec")
    compile(keras_source(model), "network_keras.py", "exec")
    again = tmp_path / "again.onnx"
    onnx.save(onnx_model(model, read.weights), str(again))
    images = np.random.default_rng(0).random((4, *INFO.input_shape), np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["logits"], {"images": images})
    assert max_difference(again, images, expected) <= 1e-4 * max(1.0, float(np.abs(expected).max()))

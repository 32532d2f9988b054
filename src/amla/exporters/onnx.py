"""``model.onnx``, straight from the Graph: any trainer's weights can leave this way, and no ML library is needed.

The file takes images (n, channels, height, width) with values in [0, 1] (or the dataset's own floats), normalises them
itself, and gives ``logits`` and ``probabilities``. Its metadata names the classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from amla import artifacts
from amla.datasets.base import Images
from amla.errors import ExportError
from amla.exporters.base import Exporter, Model, Weights
from amla.exporters.folder import check as check_weights
from amla.spec.graph import Node, padding

FILE = "model.onnx"
#: Read by every onnxruntime since 1.15.
OPSET, IR = 18, 8

_ACTIVATIONS = {"relu": "Relu", "leaky_relu": "LeakyRelu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


class OnnxExporter(Exporter):
    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        check_weights(model, weights)
        content = onnx_model(model, weights).SerializeToString()
        artifacts.write(str(folder), FILE, content)
        return [folder / FILE]


def check(path: Path, images: Images, reference: npt.NDArray[np.float32], tolerance: float) -> float:
    """The largest difference between the probabilities that the file gives and ``reference``, for raw images (n, h, w, c).

    Errors: ``ExportError`` where it is above ``tolerance``.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    scaled = images.astype(np.float32) / 255.0 if images.dtype == np.uint8 else images.astype(np.float32)
    (found,) = session.run(["probabilities"], {"images": np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))})
    difference = float(np.abs(found - reference).max())
    if not difference <= tolerance:
        raise ExportError(f"{path}: its probabilities differ by {difference:.2g} from those of the trained network")
    return difference


def onnx_model(model: Model, weights: Weights) -> onnx.ModelProto:
    """The whole file as a message."""
    graph = model.graph().inference()
    net = _Net(weights)
    here: dict[str, str] = {}
    for node in graph.nodes:
        inputs = [here[name] for name in node.inputs]
        here[node.name] = net.normalised(model) if node.op == "input" else _CONVERT[node.op](net, node, inputs)
    net.add("Identity", [here[graph.output]], "logits")
    net.add("Softmax", ["logits"], "probabilities", axis=1)
    classes = graph.num_classes
    body = helper.make_graph(
        net.nodes,
        "amla",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *graph.input_shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", classes])
            for name in ("logits", "probabilities")
        ],
        initializer=net.constants,
    )
    whole = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="amla")
    described = {"classes": list(model.data.classes), "shape": list(model.data.shape), "dataset": model.data.name}
    helper.set_model_props(whole, {key: json.dumps(value) for key, value in described.items()})
    onnx.checker.check_model(whole)
    return whole


class _Net:
    """The nodes and constants so far."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: npt.ArrayLike, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, node: Node, part: str) -> str:
        name = f"{node.name}.{part}"
        return self.constant(name, self.weights[name])

    def normalised(self, model: Model) -> str:
        mean = self.constant("mean", np.reshape(model.data.mean, (1, -1, 1, 1)))
        std = self.constant("std", np.reshape(model.data.std, (1, -1, 1, 1)))
        return self.add("Div", [self.add("Sub", ["images", mean], "centred"), std], "normalised")


def _conv(net: _Net, node: Any, inputs: list[str]) -> str:
    before, after = padding(node.kernel, node.dilation)
    parts = [net.weight(node, "weight"), *([net.weight(node, "bias")] if node.bias else [])]
    return net.add(
        "Conv",
        [*inputs, *parts],
        node.name,
        kernel_shape=[node.kernel] * 2,
        strides=[node.stride] * 2,
        dilations=[node.dilation] * 2,
        group=node.groups,
        pads=[before, before, after, after],
    )


def _norm(net: _Net, node: Any, inputs: list[str]) -> str:
    channels = node.shape[0]
    scale = net.weight(node, "weight") if node.scale else net.constant(f"{node.name}.ones", np.ones(channels))
    others = [net.weight(node, part) for part in ("bias", "running_mean", "running_var")]
    return net.add("BatchNormalization", [*inputs, scale, *others], node.name, epsilon=node.epsilon)


def _activation(net: _Net, node: Any, inputs: list[str]) -> str:
    if node.kind in _ACTIVATIONS:
        attributes = {"alpha": 0.01} if node.kind == "leaky_relu" else {}
        return net.add(_ACTIVATIONS[node.kind], inputs, node.name, **attributes)
    if node.kind == "relu6":
        bounds = [net.constant(f"{node.name}.low", 0.0), net.constant(f"{node.name}.high", 6.0)]
        return net.add("Clip", [*inputs, *bounds], node.name)
    if node.kind == "silu":
        gate = net.add("Sigmoid", inputs, f"{node.name}.gate")
        return net.add("Mul", [*inputs, gate], node.name)
    # gelu: x * (1 + erf(x / sqrt(2))) / 2
    scaled = net.add("Mul", [*inputs, net.constant(f"{node.name}.root", 1 / np.sqrt(2.0))], f"{node.name}.scaled")
    erf = net.add("Erf", [scaled], f"{node.name}.erf")
    raised = net.add("Add", [erf, net.constant(f"{node.name}.one", 1.0)], f"{node.name}.raised")
    half = net.add("Mul", [raised, net.constant(f"{node.name}.half", 0.5)], f"{node.name}.halved")
    return net.add("Mul", [*inputs, half], node.name)


def _pool(net: _Net, node: Any, inputs: list[str]) -> str:
    before, after = padding(node.kernel)
    attributes: dict[str, Any] = {
        "kernel_shape": [node.kernel] * 2,
        "strides": [node.stride] * 2,
        "pads": [before, before, after, after],
    }
    if node.kind == "avg":
        attributes["count_include_pad"] = 0
    return net.add("MaxPool" if node.kind == "max" else "AveragePool", inputs, node.name, **attributes)


def _zero(net: _Net, node: Any, inputs: list[str]) -> str:
    count = net.add("Shape", inputs, f"{node.name}.count", end=1)
    rest = net.constant(f"{node.name}.rest", node.shape, np.int64)
    shape = net.add("Concat", [count, rest], f"{node.name}.shape", axis=0)
    value = numpy_helper.from_array(np.zeros(1, np.float32))
    return net.add("ConstantOfShape", [shape], node.name, value=value)


def _scale(net: _Net, node: Any, inputs: list[str]) -> str:
    return net.add("Mul", [*inputs, net.weight(node, "weight")], node.name)


def _sum(net: _Net, node: Any, inputs: list[str]) -> str:
    return net.add("Sum", inputs, node.name)


def _concat(net: _Net, node: Any, inputs: list[str]) -> str:
    return net.add("Concat", inputs, node.name, axis=1)


def _lrn(net: _Net, node: Any, inputs: list[str]) -> str:
    # ONNX divides alpha by the size of the window; ours is not divided
    alpha = node.alpha * node.size
    return net.add("LRN", inputs, node.name, alpha=alpha, beta=node.beta, bias=node.bias, size=node.size)


def _global_pool(net: _Net, node: Any, inputs: list[str]) -> str:
    pooled = net.add("GlobalAveragePool", inputs, f"{node.name}.pooled")
    return net.add("Flatten", [pooled], node.name, axis=1)


def _flatten(net: _Net, node: Any, inputs: list[str]) -> str:
    return net.add("Flatten", inputs, node.name, axis=1)


def _dense(net: _Net, node: Any, inputs: list[str]) -> str:
    return net.add("Gemm", [*inputs, net.weight(node, "weight"), net.weight(node, "bias")], node.name, transB=1)


_CONVERT: dict[str, Callable[[_Net, Any, list[str]], str]] = {
    "conv": _conv,
    "norm": _norm,
    "activation": _activation,
    "pool": _pool,
    "zero": _zero,
    "scale": _scale,
    "add": _sum,
    "concat": _concat,
    "lrn": _lrn,
    "global_pool": _global_pool,
    "flatten": _flatten,
    "dense": _dense,
}

"""``model.onnx``: the network for ONNX Runtime, written node by node from the Graph, whatever library trained it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, checker, helper, numpy_helper

from amla import artifacts
from amla.datasets.base import Images
from amla.errors import ExportError
from amla.exporters.base import Exporter, Model, Weights, live_nodes
from amla.exporters.folder import check as check_weights
from amla.spec import graph as g
from amla.spec.experiment import VERSION

FILE = "model.onnx"
#: Read by ONNX Runtime from 1.13 on, and by every converter of that age.
OPSET = 17
IR_VERSION = 8
#: A protocol buffer ends at 2 GiB.
MAX_BYTES = 2**31 - 2**20
LEAKY_SLOPE = 0.01

Floats = npt.NDArray[np.float32]


class OnnxExporter(Exporter):
    """One file that holds everything from pixels to probabilities.

    Input ``images``: float32 (batch, channels, height, width), 8-bit pixels divided by 255 (or the dataset's own floats).
    Outputs ``logits`` and ``probabilities``: (batch, classes). The metadata hold ``classes``, ``mean`` and ``std`` as JSON.
    """

    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        artifacts.write(str(folder), FILE, onnx_model(model, weights).SerializeToString())
        return [folder / FILE]


def onnx_model(model: Model, weights: Weights) -> Any:
    """The ``onnx.ModelProto``, checked. Errors: ``ExportError`` for a missing tensor or a network beyond 2 GiB."""
    check_weights(model, weights)
    size = sum(weight.nbytes for weight in weights.values())
    if size > MAX_BYTES:
        raise ExportError(f"an ONNX file ends at 2 GiB, and these weights have {size / 2**30:.1f}: export safetensors")
    proto = _Writer(model.graph().inference(), weights, model).proto()
    checker.check_model(proto, full_check=True)
    return proto


def check(path: Path, images: Images, reference: Floats, tolerance: float = 1e-4) -> float:
    """The largest difference between the probabilities that the file gives and ``reference``, for raw images (n, h, w, c).

    Errors: ``ExportError`` where it is above ``tolerance``.
    """
    scaled = images.astype(np.float32) / 255.0 if images.dtype == np.uint8 else images.astype(np.float32)
    difference = max_difference(path, scaled.transpose(0, 3, 1, 2), reference, "probabilities")
    if not difference <= tolerance:
        raise ExportError(f"{path}: its probabilities differ by {difference:.2g} from those of the trained network")
    return difference


def max_difference(path: Path, images: Floats, reference: Floats, output: str = "logits") -> float:
    """The largest absolute difference between ``reference`` (n, classes) and what ONNX Runtime computes from ``path``.

    ``images``: (n, channels, height, width) with values in [0, 1]. Infinite where a number of either is not finite.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (found,) = session.run([output], {"images": np.ascontiguousarray(images, np.float32)})
    difference = float(np.max(np.abs(found - reference), initial=0.0))
    return difference if math.isfinite(difference) else math.inf


class _Writer:
    """The ONNX nodes and initializers so far. A value has the name of the Graph's node that it is the output of."""

    def __init__(self, graph: g.Graph, tensors: Weights, model: Model) -> None:
        self.graph = graph
        self.tensors = tensors
        self.model = model
        self.shapes = {node.name: node.shape for node in graph.nodes}
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.has_batch = False

    def proto(self) -> Any:
        graph, data = self.graph, self.model.data
        for node in live_nodes(graph):
            _WRITE[node.op](self, node)
        self.emit("Identity", [self.graph.output], "logits")
        self.emit("Softmax", ["logits"], "probabilities", axis=1)
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in (
                ("images", graph.input_shape),
                ("logits", (graph.num_classes,)),
                ("probabilities", (graph.num_classes,)),
            )
        ]
        whole = helper.make_graph(
            self.nodes,
            "network",
            values[:1],
            values[1:],
            list(self.initializers.values()),
            doc_string=f"{data.name}: {graph.num_classes} classes",
        )
        proto = helper.make_model(
            whole,
            producer_name="amla",
            producer_version=VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        helper.set_model_props(
            proto,
            {
                "classes": json.dumps(data.classes, ensure_ascii=False),
                "mean": json.dumps(data.mean),
                "std": json.dumps(data.std),
                "dataset": data.name,
            },
        )
        return proto

    # ------------------------------------------------------------------------------------------------------- small parts
    def emit(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """An initializer; returns its name."""
        self.initializers[name] = numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def weight(self, node: g.Node, part: str) -> str:
        name = f"{node.name}.{part}"
        return self.constant(name, self.tensors[name])

    # ------------------------------------------------------------------------------------------------ one method, one node
    def input(self, node: g.InputNode) -> None:
        data = self.model.data
        mean = self.constant("pixels.mean", np.reshape(data.mean, (1, -1, 1, 1)))
        std = self.constant("pixels.std", np.reshape(data.std, (1, -1, 1, 1)))
        centred = self.emit("Sub", ["images", mean], "pixels/centred")
        self.emit("Div", [centred, std], node.name)

    def conv(self, node: g.ConvNode) -> None:
        parts = ["weight", "bias"] if node.bias else ["weight"]
        self.emit(
            "Conv",
            [node.inputs[0], *(self.weight(node, part) for part in parts)],
            node.name,
            kernel_shape=[node.kernel] * 2,
            strides=[node.stride] * 2,
            dilations=[node.dilation] * 2,
            group=node.groups,
            pads=_pads(node.kernel, node.dilation),
        )

    def norm(self, node: g.NormNode) -> None:
        ones = np.ones(node.shape[0])
        scale = self.weight(node, "weight") if node.scale else self.constant(f"{node.name}.weight", ones)
        others = [self.weight(node, part) for part in ("bias", "running_mean", "running_var")]
        self.emit(
            "BatchNormalization",
            [node.inputs[0], scale, *others],
            node.name,
            epsilon=node.epsilon,
            momentum=1 - node.momentum,
        )

    def activation(self, node: g.ActivationNode) -> None:
        source, name = node.inputs[0], node.name
        match node.kind:
            case "relu" | "tanh" | "sigmoid":
                self.emit(node.kind.capitalize(), [source], name)
            case "relu6":
                limits = [self.constant("activation.zero", 0.0), self.constant("activation.six", 6.0)]
                self.emit("Clip", [source, *limits], name)
            case "leaky_relu":
                self.emit("LeakyRelu", [source], name, alpha=LEAKY_SLOPE)
            case "silu":
                self.emit("Mul", [source, self.emit("Sigmoid", [source], f"{name}/sigmoid")], name)
            case "gelu":  # x / 2 * (1 + erf(x / sqrt 2)); an operation of its own only from opset 20 on
                root = self.constant("activation.root", math.sqrt(0.5))
                one, half = self.constant("activation.one", 1.0), self.constant("activation.half", 0.5)
                scaled = self.emit("Mul", [source, root], f"{name}/scaled")
                shifted = self.emit("Add", [self.emit("Erf", [scaled], f"{name}/erf"), one], f"{name}/shifted")
                halved = self.emit("Mul", [source, half], f"{name}/halved")
                self.emit("Mul", [halved, shifted], name)

    def pool(self, node: g.PoolNode) -> None:
        attributes: dict[str, Any] = {
            "kernel_shape": [node.kernel] * 2,
            "strides": [node.stride] * 2,
            "pads": _pads(node.kernel),
        }
        if node.kind == "max":
            self.emit("MaxPool", node.inputs, node.name, **attributes)
        else:
            self.emit("AveragePool", node.inputs, node.name, count_include_pad=0, **attributes)

    def zero(self, node: g.ZeroNode) -> None:
        """Zeros for as many images as came in: multiplying by 0 would keep a NaN."""
        if not self.has_batch:
            self.has_batch = True
            self.emit("Shape", ["images"], "batch", end=1)
        sides = self.constant(f"{node.name}.shape", node.shape, np.int64)
        whole = self.emit("Concat", ["batch", sides], f"{node.name}/shape", axis=0)
        self.emit("ConstantOfShape", [whole], node.name, value=numpy_helper.from_array(np.zeros(1, np.float32)))

    def scale(self, node: g.ScaleNode) -> None:
        self.emit("Mul", [node.inputs[0], self.weight(node, "weight")], node.name)

    def add(self, node: g.AddNode) -> None:
        self.emit("Sum", node.inputs, node.name)

    def concat(self, node: g.ConcatNode) -> None:
        if len(node.inputs) == 1:
            self.emit("Identity", node.inputs, node.name)
        else:
            self.emit("Concat", node.inputs, node.name, axis=1)

    def lrn(self, node: g.LRNNode) -> None:
        """ONNX Runtime's LRN takes odd windows only (and divides alpha by their size). An even one, which reaches one
        channel further back than forth as torch's does, is summed by a 1x1 convolution whose kernel is a band."""
        source, name = node.inputs[0], node.name
        if node.size % 2:
            self.emit(
                "LRN", [source], name, size=node.size, alpha=node.alpha * node.size, beta=node.beta, bias=node.bias
            )
            return
        channels = node.shape[0]
        offset = np.arange(channels)[None, :] - np.arange(channels)[:, None] + node.size // 2
        band = ((offset >= 0) & (offset < node.size)) * np.float32(node.alpha)
        kernel = self.constant(f"{name}.band", band[:, :, None, None])
        bias = self.constant(f"{name}.bias", np.full(channels, node.bias))
        square = self.emit("Mul", [source, source], f"{name}/square")
        total = self.emit("Conv", [square, kernel, bias], f"{name}/sum", kernel_shape=[1, 1])
        power = self.emit("Pow", [total, self.constant(f"{name}.beta", node.beta)], f"{name}/power")
        self.emit("Div", [source, power], name)

    def global_pool(self, node: g.GlobalPoolNode) -> None:
        mean = self.emit("GlobalAveragePool", node.inputs, f"{node.name}/mean")
        self.emit("Flatten", [mean], node.name, axis=1)

    def flatten(self, node: g.FlattenNode) -> None:
        self.emit("Flatten", node.inputs, node.name, axis=1)

    def dense(self, node: g.DenseNode) -> None:
        parts = [self.weight(node, "weight"), self.weight(node, "bias")]
        self.emit("Gemm", [node.inputs[0], *parts], node.name, transB=1)

    def same(self, node: g.IdentityNode | g.DropoutNode | g.CutoutNode) -> None:
        self.emit("Identity", node.inputs, node.name)


_WRITE: dict[str, Callable[[_Writer, Any], None]] = {
    "input": _Writer.input,
    "conv": _Writer.conv,
    "norm": _Writer.norm,
    "activation": _Writer.activation,
    "pool": _Writer.pool,
    "identity": _Writer.same,
    "zero": _Writer.zero,
    "scale": _Writer.scale,
    "add": _Writer.add,
    "concat": _Writer.concat,
    "lrn": _Writer.lrn,
    "dropout": _Writer.same,
    "cutout": _Writer.same,
    "global_pool": _Writer.global_pool,
    "flatten": _Writer.flatten,
    "dense": _Writer.dense,
}


def _pads(kernel: int, dilation: int = 1) -> list[int]:
    """ONNX counts [top, left, bottom, right]."""
    before, after = g.padding(kernel, dilation)
    return [before, before, after, after]

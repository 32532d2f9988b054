"""ONNX in: a network made elsewhere, as a Graph and its weights, where it is of our vocabulary.

The vocabulary and its paddings are those of ``spec.graph``. What lies outside is named, node by node. What a trained
network does not need is passed over: the softmax at the end, dropout, identities, a normalisation of pixels at the
beginning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from amla.errors import SpecError
from amla.spec import graph as g
from amla.spec.branches import branches

Array = npt.NDArray[Any]
LEAKY_SLOPE = 0.01


class Read(NamedTuple):
    """A network that was read: its Graph, its tensors in the layout of ``spec.graph.weights``, and how it normalises pixels
    (mean and deviation per channel)."""

    graph: g.Graph
    weights: dict[str, Array]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_onnx(path: Path) -> Read:
    """The network in a file. Errors: ``SpecError``, naming every node that is not of the vocabulary."""
    try:
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise SpecError(f"{path}: not an ONNX model: {str(error).splitlines()[0]}") from None
    except DecodeError:
        raise SpecError(f"{path}: not an ONNX model") from None
    return _Reader(proto.graph, path).read()


class _Outside(Exception):
    """Why a node is not of our vocabulary."""


class _Reader:
    """The Graph so far. ``known`` maps a value of the file to the node of the Graph that computes it."""

    def __init__(self, file: Any, path: Path) -> None:
        self.file, self.path = file, path
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in file.initializer}
        self.maker = {output: node for node in file.node for output in node.output}
        self.nodes: list[g.Node] = []
        self.shapes: dict[str, g.Shape] = {}
        self.known: dict[str, str] = {}
        self.weights: dict[str, Array] = {}
        self.normalised: dict[str, Array] = {}  # what is subtracted from the input, and what it is divided by

    def read(self) -> Read:
        self._input()
        outside: list[str] = []
        lost: set[str] = set()
        for node in self.file.node:
            if lost & set(node.input):
                lost |= set(node.output)  # it may be of the vocabulary, but what it reads is not
                continue
            try:
                self._one(node)
            except _Outside as why:
                outside.append(f"{node.name or node.output[0]} ({node.op_type}: {why})")
                lost |= set(node.output)
        if outside:
            raise SpecError(f"{self.path}: not of the vocabulary: {'; '.join(outside)}")
        graph = g.Graph(nodes=self._live(), output=self.known[self._end()])
        graph = graph.model_copy(update={"blocks": tuple(branches(graph))})
        mean, std = (
            tuple(
                np.broadcast_to(self.normalised.get(op, default).reshape(-1), graph.input_shape[:1])
                .astype(float)
                .tolist()
            )
            for op, default in (("Sub", np.zeros(1)), ("Div", np.ones(1)))
        )
        return Read(graph, {weight.name: self.weights[weight.name] for weight in g.weights(graph)}, mean, std)

    def _input(self) -> None:
        inputs = [value for value in self.file.input if value.name not in self.constants]
        sizes = [size.dim_value for size in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
        if len(sizes) != 4 or min(sizes[1:]) < 1:
            raise SpecError(f"{self.path}: it must have one input (batch, channels, height, width) of a fixed size")
        self._add(g.InputNode, inputs[0].name, [], tuple(sizes[1:]), name="input")

    def _end(self) -> str:
        """The value of the logits: the first output, before a softmax."""
        end = str(self.file.output[0].name)
        made = self.maker[end]
        return str(made.input[0]) if made.op_type in ("Softmax", "LogSoftmax") else end

    def _live(self) -> tuple[g.Node, ...]:
        """The nodes that the output depends on."""
        needed = {self.known[self._end()]}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return tuple(node for node in self.nodes if node.name in needed)

    def _one(self, node: Any) -> None:
        read = _READ.get(node.op_type)
        if read is None:
            raise _Outside("there is no such operation here")
        if node.op_type != "Constant" and all(name in self.constants for name in node.input if name):
            raise _Outside("it computes on constants; fold them first")
        read(self, node, {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute})

    # ------------------------------------------------------------------------------------------------------- small parts
    def _add(self, kind: Callable[..., g.Node], value: str, inputs: list[str], shape: g.Shape, /, **given: Any) -> str:
        name = given.pop("name", None) or self._named(value)
        self.nodes.append(kind(name=name, inputs=tuple(inputs), shape=shape, **given))
        self.shapes[name] = shape
        self.known[value] = name
        return str(name)

    def _named(self, value: str) -> str:
        """A name of the Graph's kind, which nothing else has."""
        name = re.sub(r"[^A-Za-z0-9_/]+", "_", value).strip("/") or "node"
        while name in self.shapes:
            name = f"{name}_"
        return name

    def _same(self, kind: Callable[..., g.Node], node: Any, /, **given: Any) -> None:
        source = self._source(node)
        self._add(kind, node.output[0], [source], self.shapes[source], **given)

    def _pass(self, node: Any) -> None:
        self.known[node.output[0]] = self._source(node)

    def _source(self, node: Any, place: int = 0) -> str:
        name = node.input[place]
        if name not in self.known:
            raise _Outside(f"its input {name!r} is a constant")
        return self.known[name]

    def _constant(self, node: Any, place: int) -> Array:
        name = node.input[place]
        if name not in self.constants:
            raise _Outside(f"its input {name!r} is computed, not a constant")
        return self.constants[name]

    def _image(self, node: Any) -> tuple[str, g.Shape]:
        source = self._source(node)
        if len(self.shapes[source]) != 3:
            raise _Outside("its input is no image")
        return source, self.shapes[source]

    # -------------------------------------------------------------------------------------------------- one method, one kind
    def constant(self, node: Any, given: Mapping[str, Any]) -> None:
        if "value" not in given:
            raise _Outside("a constant that is no tensor")
        self.constants[node.output[0]] = numpy_helper.to_array(given["value"])

    def conv(self, node: Any, given: Mapping[str, Any]) -> None:
        source, (channels, height, width) = self._image(node)
        weight = self._constant(node, 1)
        kernel, stride, dilation = _window(given, weight.shape[2:])
        bias = len(node.input) > 2
        shape = (int(weight.shape[0]), -(-height // stride), -(-width // stride))
        groups = int(given.get("group", 1))
        name = self._add(
            g.ConvNode, node.output[0], [source], shape,
            kernel=kernel, stride=stride, dilation=dilation, groups=groups, bias=bias,
        )  # fmt: skip
        assert weight.shape[1] * groups == channels  # the checker has seen to that
        self.weights[f"{name}.weight"] = weight
        if bias:
            self.weights[f"{name}.bias"] = self._constant(node, 2)

    def norm(self, node: Any, given: Mapping[str, Any]) -> None:
        scale, bias, mean, variance = (self._constant(node, place) for place in (1, 2, 3, 4))
        scaled = not np.all(scale == 1.0)
        momentum = round(1.0 - float(given.get("momentum", 0.9)), 6)
        self._same(g.NormNode, node, scale=scaled, epsilon=float(given.get("epsilon", 1e-5)), momentum=momentum)
        name = self.known[node.output[0]]
        self.weights |= {f"{name}.bias": bias, f"{name}.running_mean": mean, f"{name}.running_var": variance}
        if scaled:
            self.weights[f"{name}.weight"] = scale

    def activation(self, node: Any, given: Mapping[str, Any]) -> None:
        if node.op_type == "LeakyRelu" and not math.isclose(given.get("alpha", 0.01), LEAKY_SLOPE, rel_tol=1e-6):
            raise _Outside(f"its slope is not {LEAKY_SLOPE}")
        if node.op_type == "Gelu" and given.get("approximate", b"none") != b"none":
            raise _Outside("the approximate one")
        self._same(g.ActivationNode, node, kind="leaky_relu" if node.op_type == "LeakyRelu" else node.op_type.lower())

    def clip(self, node: Any, given: Mapping[str, Any]) -> None:
        limits = [given.get("min"), given.get("max")]
        if len(node.input) > 2:
            limits = [float(self._constant(node, place)) for place in (1, 2)]
        if limits != [0.0, 6.0]:
            raise _Outside("its limits are not 0 and 6")
        self._same(g.ActivationNode, node, kind="relu6")

    def pool(self, node: Any, given: Mapping[str, Any]) -> None:
        source, (channels, height, width) = self._image(node)
        kernel, stride, dilation = _window(given, given["kernel_shape"])
        if dilation != 1 or given.get("ceil_mode", 0):
            raise _Outside("dilated, or with ceil_mode")
        average = node.op_type == "AveragePool"
        if average and kernel > 1 and given.get("count_include_pad", 0):
            raise _Outside("it counts padded pixels")
        shape = (channels, -(-height // stride), -(-width // stride))
        kind = "avg" if average else "max"
        self._add(g.PoolNode, node.output[0], [source], shape, kind=kind, kernel=kernel, stride=stride)

    def global_pool(self, node: Any, given: Mapping[str, Any]) -> None:
        source, shape = self._image(node)
        if node.op_type == "ReduceMean":
            axes = given.get("axes") or (self._constant(node, 1).tolist() if len(node.input) > 1 else None)
            if sorted(axis % 4 for axis in axes or ()) != [2, 3]:
                raise _Outside("not over height and width")
        self._add(g.GlobalPoolNode, node.output[0], [source], (shape[0],))

    def flatten(self, node: Any, given: Mapping[str, Any]) -> None:
        source = self._source(node)
        shape = self.shapes[source]
        if len(shape) == 1:
            return self._pass(node)
        if node.op_type == "Squeeze" or (node.op_type == "Flatten" and given.get("axis", 1) != 1):
            raise _Outside("it does not leave one number a feature")
        if node.op_type == "Reshape" and self._constant(node, 1).tolist()[1:] not in ([-1], [math.prod(shape)]):
            raise _Outside("to a shape other than (batch, features)")
        self._add(g.FlattenNode, node.output[0], [source], (math.prod(shape),))
        return None

    def gemm(self, node: Any, given: Mapping[str, Any]) -> None:
        source = self._source(node)
        if given.get("alpha", 1.0) != 1.0 or given.get("beta", 1.0) != 1.0 or given.get("transA", 0):
            raise _Outside("with alpha, beta or transA")
        weight = self._constant(node, 1)
        weight = weight if given.get("transB", 0) else weight.T
        name = self._add(g.DenseNode, node.output[0], [source], (int(weight.shape[0]),))
        bias = self._constant(node, 2) if len(node.input) > 2 else np.zeros(weight.shape[0], np.float32)
        self.weights |= {f"{name}.weight": weight, f"{name}.bias": np.broadcast_to(bias, weight.shape[:1])}

    def add(self, node: Any, given: Mapping[str, Any]) -> None:  # noqa: ARG002
        fixed = [name for name in node.input if name in self.constants]
        made = self.maker.get(next((name for name in node.input if name not in self.constants), ""))
        if fixed and made is not None and made.op_type == "MatMul":  # a dense layer in two
            name = self.known[made.output[0]]
            self.known[node.output[0]] = name
            self.weights[f"{name}.bias"] = self.constants[fixed[0]].reshape(self.weights[f"{name}.bias"].shape)
            return
        sources = [self._source(node, place) for place in range(len(node.input))]
        if len({self.shapes[source] for source in sources}) > 1:
            raise _Outside("its inputs have different shapes")
        self._add(g.AddNode, node.output[0], sources, self.shapes[sources[0]])

    def concat(self, node: Any, given: Mapping[str, Any]) -> None:
        if node.input[0] not in self.known:
            return  # a shape: ``zero`` looks at it
        sources = [self._source(node, place) for place in range(len(node.input))]
        shapes = [self.shapes[source] for source in sources]
        if given["axis"] % (len(shapes[0]) + 1) != 1:
            raise _Outside("not over channels")
        self._add(g.ConcatNode, node.output[0], sources, (sum(shape[0] for shape in shapes), *shapes[0][1:]))

    def multiply(self, node: Any, given: Mapping[str, Any]) -> None:  # noqa: ARG002
        """A learned scalar; or the last part of x * sigmoid(x), or of a GELU spelt out."""
        if node.input[1] in self.constants:
            factor = self._constant(node, 1)
            if factor.size != 1:
                raise _Outside("by a constant that is no single number")
            self._same(g.ScaleNode, node, init=float(factor.reshape(())))
            self.weights[f"{self.known[node.output[0]]}.weight"] = factor.reshape(1)
            return
        gated = self.maker.get(node.input[1])
        if gated is not None and gated.op_type == "Sigmoid" and gated.input[0] == node.input[0]:
            self._same(g.ActivationNode, node, kind="silu")
            return
        raise _Outside("by something computed")

    def lrn(self, node: Any, given: Mapping[str, Any]) -> None:
        size = int(given["size"])
        options = {key: float(given.get(key, default)) for key, default in (("beta", 0.75), ("bias", 1.0))}
        self._same(g.LRNNode, node, size=size, alpha=float(given.get("alpha", 1e-4)) / size, **options)

    def pixels(self, node: Any, given: Mapping[str, Any]) -> None:  # noqa: ARG002
        """The normalisation of pixels that stands before the network."""
        if self._source(node) != "input":
            raise _Outside("only a normalisation of the input")
        value = self._constant(node, 1)
        if value.size not in (1, self.shapes["input"][0]):
            raise _Outside("not one number a channel")
        self.normalised[node.op_type] = value
        self._pass(node)

    def zero(self, node: Any, given: Mapping[str, Any]) -> None:
        made = self.maker.get(node.input[0])
        value = numpy_helper.to_array(given["value"]) if "value" in given else np.zeros(1)
        if made is None or made.op_type != "Concat" or np.any(value != 0):
            raise _Outside("anything but zeros for every image")
        shape = tuple(int(side) for side in self._constant(made, 1))
        self._add(g.ZeroNode, node.output[0], ["input"], shape)

    def nothing(self, node: Any, given: Mapping[str, Any]) -> None:
        """The shape of a value, which ``zero`` looks at."""

    def same(self, node: Any, given: Mapping[str, Any]) -> None:  # noqa: ARG002
        self._pass(node)


def _window(given: Mapping[str, Any], sides: Any) -> tuple[int, int, int]:
    """(kernel, stride, dilation) where they are square and padded as ``spec.graph.padding`` says."""
    kernel, stride, dilation = (
        tuple(given.get(key, default))
        for key, default in (("kernel_shape", sides), ("strides", (1, 1)), ("dilations", (1, 1)))
    )
    for what, pair in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if len(pair) != 2 or pair[0] != pair[1]:
            raise _Outside(f"a {what} of {'x'.join(map(str, pair))} is not square")
    before, after = g.padding(kernel[0], dilation[0])
    automatic = given.get("auto_pad", b"NOTSET")
    if automatic == b"SAME_UPPER" and stride[0] == 1:
        pads = [before, before, after, after]
    elif automatic in (b"NOTSET", b"VALID"):
        pads = list(given.get("pads", [0, 0, 0, 0]))
    else:
        raise _Outside(f"padded {automatic.decode()}")
    if pads != [before, before, after, after]:
        raise _Outside(f"padded by {pads}, not by {[before, before, after, after]}")
    return int(kernel[0]), int(stride[0]), int(dilation[0])


_READ: dict[str, Callable[[_Reader, Any, Mapping[str, Any]], None]] = {
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Gelu"), _Reader.activation),
    **dict.fromkeys(("MaxPool", "AveragePool"), _Reader.pool),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _Reader.global_pool),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), _Reader.flatten),
    **dict.fromkeys(("Gemm", "MatMul"), _Reader.gemm),
    **dict.fromkeys(("Add", "Sum"), _Reader.add),
    **dict.fromkeys(("Identity", "Dropout", "Softmax", "LogSoftmax"), _Reader.same),
    **dict.fromkeys(("Sub", "Div"), _Reader.pixels),
    "BatchNormalization": _Reader.norm,
    "Clip": _Reader.clip,
    "Concat": _Reader.concat,
    "Constant": _Reader.constant,
    "ConstantOfShape": _Reader.zero,
    "Conv": _Reader.conv,
    "LRN": _Reader.lrn,
    "Mul": _Reader.multiply,
    "Shape": _Reader.nothing,
}

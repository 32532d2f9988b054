"""Graph -> a Keras 3 functional model, channels last, and its variables by the names of ``spec.graph.weights``.

Every weighted node is a layer called after the node (with a dot for each slash, which Keras does not allow).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from amla.spec import graph as g
from amla.trainers.cells import Cell, cells_of
from amla.trainers.keras import backend
from amla.trainers.keras.cells import Merged, parts_of
from amla.trainers.keras.layers import Cutout, Depthwise, Dropout, Norm, Scale

LEAKY_SLOPE = 0.01  # torch's own
#: Our layout from Keras's, and back: (out, in, h, w) is (h, w, in, out) there, (channels * m, 1, h, w) is (h, w, channels, m).
CONV, DENSE = (3, 2, 0, 1), (1, 0)


#: What is done to the outputs of some nodes before anything reads them.
Changes = dict[str, Callable[[Any], Any]]


class Bound(NamedTuple):
    """A variable of a model, and how its value is brought into our layout."""

    variable: Any
    kind: str  # "conv", "depthwise", "dense", "vector"

    def ours(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A value in Keras's layout, in that of ``spec.graph.weights``."""
        if self.kind == "conv":
            return value.transpose(CONV)
        if self.kind == "depthwise":
            height, width, channels, each = value.shape
            return value.transpose(2, 3, 0, 1).reshape(channels * each, 1, height, width)
        return value.T if self.kind == "dense" else value.reshape(-1)  # a vector; (1, 1) in a portable scale

    def theirs(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The way back."""
        if self.kind == "conv":
            return value.transpose(2, 3, 1, 0)
        if self.kind == "depthwise":
            height, width, channels, each = self.variable.shape
            return value.reshape(channels, each, height, width).transpose(2, 3, 0, 1)
        if self.kind == "dense":
            return value.T
        return value.reshape(self.variable.shape)


class Network:
    """The layers of a Graph. ``model`` connects them; all models of a network share its variables.

    With ``portable`` it is made of Keras's own layers and operations alone, so that a saved model needs no code of ours;
    its norms are trained a little otherwise then (``Norm``).
    """

    def __init__(self, graph: g.Graph, dtype: str = "float32", portable: bool = False) -> None:
        self.graph, self.portable = graph, portable
        self.policy = "mixed_bfloat16" if dtype == "bfloat16" else "float32"
        self.nodes = graph.by_name()
        self.cells = {} if portable else {node.name: cell for cell in cells_of(graph) for node in cell.nodes}
        self.layers: dict[str, Any] = {}
        # what nothing reads has weights too: a checkpoint has them all
        self._values(keras.Input(last(graph.input_shape)), self.nodes, {})
        # in this order, what a cell takes together lies together: in a vector of all of it, one slice
        self.bound = dict(one for name, layer in self.layers.items() for one in self._bound(self.nodes[name], layer))

    @functools.cached_property
    def whole(self) -> Any:
        """The model of all that the network gives: logits, then those of the auxiliary classifiers."""
        return self.model([self.graph.output, *self.graph.auxiliaries])

    def model(self, outputs: Sequence[str], probes: Iterable[str] = (), gated: Sequence[str] = ()) -> Any:
        """A functional model from images (n, h, w, c) to a list: the outputs of these nodes.

        For every name in ``probes`` it has a second input, shaped as that node's output, which is added to it: the gradient
        with respect to it is the gradient that arrives there. With ``gated`` it has a last input, (n, names): numbers by
        which the outputs of these nodes are multiplied.
        """
        needed = set(outputs)
        for node in reversed(self.graph.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        probed = {name: keras.Input(last(self.nodes[name].shape), name=f"probe.{_title(name)}") for name in probes}
        images = keras.Input(last(self.graph.input_shape), name="images")
        gates = [keras.Input((len(gated),), name="gates")] if gated else []
        changes: Changes = {name: functools.partial(ops.add, probe) for name, probe in probed.items()}
        changes |= {name: functools.partial(_through, gates[0], place) for place, name in enumerate(gated)}
        values = self._values(images, needed, changes)
        inputs = [images, *probed.values(), *gates]
        return keras.Model(inputs, [values[name] for name in outputs], name="graph")

    def _values(self, images: Any, needed: Collection[str], changes: Changes) -> dict[str, Any]:
        """The outputs of these nodes, but for what is between the two convolutions of a separable one in a cell."""
        values: dict[str, Any] = {}
        for node in self.graph.nodes:
            cell = self.cells.get(node.name)
            if node.name not in needed or (cell is not None and cell.out.name in values):
                continue
            if cell is not None:
                values |= self._cell(cell, values[cell.source], images, changes)
                continue
            values[node.name] = self._compute(node, [values[name] for name in node.inputs], images)
            if node.name in changes:
                values[node.name] = changes[node.name](values[node.name])
        return values

    def _cell(self, cell: Cell, x: Any, images: Any, changes: Changes) -> dict[str, Any]:
        """All branches of a cell together: few convolutions, one norm, one activation."""
        values = self._convolved(cell, x, images)
        first = cell.branches[0]
        norms = [branch.norm for branch in cell.branches]
        y = _beside([values[branch.convs[-1].name] for branch in cell.branches])
        y = self._norm(first.norm, y, tuple(norm.shape[0] for norm in norms))
        values |= _apart(y, norms)
        y = _activate(first.activation, y)
        values |= _apart(y, [branch.activation for branch in cell.branches])
        if first.dropout:
            y = self._compute(first.dropout, [y], images)
            values |= _apart(y, [branch.dropout for branch in cell.branches if branch.dropout])
        ends = [branch.nodes[-1].name for branch in cell.branches]
        changed = {name: changes[name](values[name]) for name in ends if name in changes}
        values |= changed
        values[cell.out.name] = _beside([values[name] for name in ends]) if changed else y
        return values

    def _convolved(self, cell: Cell, x: Any, images: Any) -> dict[str, Any]:
        """What comes before the norms of a cell, by the convolutions that give it."""
        values: dict[str, Any] = {}
        parts = parts_of(cell)
        for branches in parts:
            layer = self._layer(branches[0].convs[0], Merged, branches=branches, into=cell.into)
            values |= _apart(layer(x), [branch.convs[-1] for branch in branches])
        merged = {branch for branches in parts for branch in branches}
        for branch in cell.branches:
            for conv in branch.convs if branch not in merged else ():
                values[conv.name] = self._compute(conv, [values.get(conv.inputs[0], x)], images)
        return values

    def _bound(self, node: g.Node, layer: Any) -> Iterator[tuple[str, Bound]]:
        """The variables of a layer that is called after this node, by the names of our weights."""
        if isinstance(layer, Merged):
            for branch in layer.branches:
                kinds = ("depthwise", "conv") if branch.separable else ("conv",)
                for conv, kind in zip(branch.convs, kinds, strict=True):
                    yield f"{conv.name}.weight", Bound(layer.kernels[conv.name], kind)
        elif isinstance(layer, Norm):
            cell = self.cells.get(node.name)
            names = [branch.norm.name for branch in cell.branches] if cell else [node.name]
            of_each = {"bias": layer.betas, "running_mean": layer.means, "running_var": layer.variances}
            if layer.scaled:
                of_each["weight"] = layer.gammas
            for part, variables in of_each.items():
                yield from ((f"{n}.{part}", Bound(one, "vector")) for n, one in zip(names, variables, strict=True))
        else:
            yield from ((f"{node.name}.{part}", bound) for part, bound in _parts(node, layer).items())

    # ------------------------------------------------------------------------------------------------------- node by node
    def _layer(self, node: g.Node, kind: Any, **options: Any) -> Any:
        if node.name not in self.layers:
            self.layers[node.name] = kind(name=_title(node.name), dtype=self.policy, **options)
        return self.layers[node.name]

    def _compute(self, node: g.Node, inputs: list[Any], images: Any) -> Any:  # one return an operation
        x = inputs[0] if inputs else images
        match node.op:
            case "input" | "identity":
                return x
            case "conv":
                return self._conv(node, x)
            case "norm":
                return self._norm(node, x)
            case "dense":
                return self._layer(node, layers.Dense, units=node.shape[0], kernel_initializer="zeros")(x)
            case "scale":
                return self._scale(node, x)
            case "activation":
                return _activate(node, x)
            case "pool":
                return _pool(node, x)
            case "zero":
                pixel = ops.zeros_like(images[:, :1, :1, :1])
                return ops.tile(pixel if len(node.shape) > 1 else pixel[:, 0, 0, :], (1, *last(node.shape)))
            case "add":
                return functools.reduce(ops.add, inputs)
            case "concat":
                return _beside(inputs)
            case "lrn":
                return _local_response_norm(node, x)
            case "dropout":
                return self._layer(node, Dropout, rate=node.rate)(x)
            case "cutout":
                return self._layer(node, Cutout, size=node.size)(x)
            case "global_pool":
                return ops.mean(x, axis=(1, 2))
            case "flatten":  # in our order: channels first
                return ops.reshape(ops.transpose(x, (0, 3, 1, 2)), (-1, node.shape[0])) if len(x.shape) > 2 else x

    def _conv(self, node: g.ConvNode, x: Any) -> Any:
        into = self.nodes[node.inputs[0]].shape[0]
        depthwise = 1 < node.groups == into
        each: dict[str, Any] = {"depth_multiplier": node.shape[0] // into, "depthwise_initializer": "zeros"}
        common: dict[str, Any] = {"kernel_size": node.kernel, "use_bias": node.bias}
        if depthwise and not self.portable and backend.on_cpu():
            pads = g.padding(node.kernel, node.dilation)
            options = {"pads": pads, "stride": node.stride, "dilation": node.dilation, **each, **common}
            return self._layer(node, Depthwise, **options)(x)
        dilated = node.stride > 1 and node.dilation > 1  # Keras has not both: every pixel, and then every so manieth
        stride = 1 if dilated else node.stride
        if stride > 1 and node.kernel > 1:
            x = ops.pad(x, ((0, 0), *(g.padding(node.kernel, node.dilation),) * 2, (0, 0)))
        common |= {"strides": stride, "padding": "same" if stride == 1 else "valid", "dilation_rate": node.dilation}
        if depthwise:
            layer = self._layer(node, layers.DepthwiseConv2D, **each, **common)
        else:
            options = {"filters": node.shape[0], "groups": node.groups, "kernel_initializer": "zeros"}
            layer = self._layer(node, layers.Conv2D, **options, **common)
        y = layer(x)
        return y[:, :: node.stride, :: node.stride, :] if dilated else y

    def _norm(self, node: g.NormNode, x: Any, widths: tuple[int, ...] = ()) -> Any:
        if self.portable:
            options = {"momentum": 1.0 - node.momentum, "epsilon": node.epsilon, "scale": node.scale}
            return self._layer(node, layers.BatchNormalization, **options)(x)
        settings: dict[str, Any] = {"scale": node.scale, "epsilon": node.epsilon, "momentum": node.momentum}
        return self._layer(node, Norm, widths=widths, **settings)(x)

    def _scale(self, node: g.ScaleNode, x: Any) -> Any:
        if not self.portable:
            return self._layer(node, Scale)(x)
        layer = self._layer(
            node, layers.Dense, units=1, use_bias=False, kernel_initializer="zeros"
        )  # on numbers, one by one
        return ops.squeeze(layer(ops.expand_dims(x, -1)), -1)


def load(network: Network, weights: Mapping[str, npt.NDArray[Any]]) -> Network:
    """The same network, its variables set. Errors: ``KeyError`` for a missing tensor."""
    for name, bound in network.bound.items():
        bound.variable.assign(bound.theirs(np.asarray(weights[name])))
    return network


def fresh(graph: g.Graph, seed: int) -> dict[str, npt.NDArray[np.float32]]:
    """Fresh weights in our layout, drawn as torch's are: He for convolutions (arXiv 1502.01852 equation 10), uniform within
    +-1 / sqrt(inputs) for dense layers, N(init, 0.01) for scalars, ones and zeros for norms."""
    rng = np.random.default_rng(seed)
    nodes = graph.by_name()
    found: dict[str, npt.NDArray[np.float32]] = {}
    for weight in g.weights(graph):
        name, part = weight.name.rsplit(".", 1)
        node = nodes[name]
        value = np.full(weight.shape, 1.0 if part in ("weight", "running_var") else 0.0)
        if node.op == "conv" and part == "weight":
            value = rng.normal(0.0, math.sqrt(2.0 / math.prod(weight.shape[1:])), weight.shape)
        elif node.op == "dense":
            limit = 1.0 / math.sqrt(nodes[node.inputs[0]].shape[0])
            value = rng.uniform(-limit, limit, weight.shape)
        elif node.op == "scale":
            value = rng.normal(node.init, 0.01, weight.shape)
        found[weight.name] = value.astype(np.float32)
    return found


# ------------------------------------------------------------------------------------------------------------- operations
def last(shape: g.Shape) -> tuple[int, ...]:
    """A shape of ours as Keras has it: the channels behind."""
    return (*shape[1:], shape[0])


def listed(outputs: Any) -> list[Any]:
    """What a model gives, as a list: Keras takes a list of one apart."""
    return outputs if isinstance(outputs, list) else [outputs]


def _title(name: str) -> str:
    return name.replace("/", ".")


def _parts(node: g.Node, layer: Any) -> dict[str, Bound]:
    match node.op:
        case "conv" | "dense":
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            kind = "dense" if node.op == "dense" else "depthwise" if depthwise else "conv"
            found = {"weight": Bound(layer.kernel, kind)}
            return found | ({"bias": Bound(layer.bias, "vector")} if layer.use_bias else {})
        case "norm":  # of Keras's own
            parts = {"bias": layer.beta, "running_mean": layer.moving_mean, "running_var": layer.moving_variance}
            if node.scale:
                parts["weight"] = layer.gamma
            return {part: Bound(variable, "vector") for part, variable in parts.items()}
        case "scale":
            return {"weight": Bound(layer.scalar if isinstance(layer, Scale) else layer.kernel, "vector")}
        case _:
            return {}


def _through(gates: Any, place: int, x: Any) -> Any:
    """Every image times its gate."""
    return x * ops.cast(ops.reshape(gates[:, place], (-1, *[1] * (len(x.shape) - 1))), x.dtype)


def _beside(values: Sequence[Any]) -> Any:
    return ops.concatenate(list(values), axis=-1) if len(values) > 1 else values[0]


def _apart(joint: Any, nodes: Sequence[g.Node]) -> dict[str, Any]:
    """The outputs of nodes that stand next to each other, by their names."""
    if len(nodes) == 1:
        return {nodes[0].name: joint}
    ends = list(itertools.accumulate(node.shape[0] for node in nodes))
    return {node.name: joint[..., end - node.shape[0] : end] for node, end in zip(nodes, ends, strict=True)}


def _activate(node: g.ActivationNode, x: Any) -> Any:
    match node.kind:
        case "leaky_relu":
            return ops.leaky_relu(x, LEAKY_SLOPE)
        case "gelu":
            return ops.gelu(x, approximate=False)
        case _:
            return getattr(ops, node.kind)(x)


def _pool(node: g.PoolNode, x: Any) -> Any:
    """Max pooling pads with -infinity, average pooling counts real pixels only; so does Keras's ``same`` with a stride of 1."""
    run = ops.max_pool if node.kind == "max" else ops.average_pool
    if node.stride == 1:
        return run(x, node.kernel, 1, "same")
    pads = g.padding(node.kernel)
    sides = x.shape[1:3]
    if pads == (0, 1) and node.stride == 2 and all(side % 2 == 0 for side in sides):
        return run(x, node.kernel, 2, "valid")
    around = ((0, 0), pads, pads, (0, 0))
    if node.kind == "max":
        return run(ops.pad(x, around, constant_values=-math.inf), node.kernel, node.stride, "valid")
    rows, columns = (_real(side, node) for side in sides)
    share = (node.kernel**2 / np.outer(rows, columns)).astype(np.float32)[None, :, :, None]
    return run(ops.pad(x, around), node.kernel, node.stride, "valid") * ops.cast(share, x.dtype)


def _real(side: int, node: g.PoolNode) -> npt.NDArray[np.int64]:
    """How many real pixels of an axis are under the window, at each place."""
    first = np.arange(0, side, node.stride) - g.padding(node.kernel)[0]
    return np.minimum(first + node.kernel, side) - np.maximum(first, 0)


def _local_response_norm(node: g.LRNNode, x: Any) -> Any:
    """In float32: it is a power of a sum. An even window reaches one channel further back than forth."""
    values = ops.cast(x, "float32")
    channels = x.shape[-1]
    pads = ((0, 0),) * (len(x.shape) - 1) + ((node.size // 2, (node.size - 1) // 2),)
    square = ops.pad(values * values, pads)
    total = functools.reduce(ops.add, [square[..., i : i + channels] for i in range(node.size)])
    return ops.cast(values / (node.bias + node.alpha * total) ** node.beta, x.dtype)

"""``surgery_plan``: how the weights of one network become those of the next. Pure: names and indices, no tensors.

Every channel has an identity: the convolution that made it and its place there, carried through norms, activations,
poolings and concatenations. A weight of the child takes from the parent's weight of the same name whatever channels both
have. What is new in an input begins at zero, so that it changes nothing; what is new in an output begins as that kind of
weight always does. A whole new layer begins as an identity where its shape allows: its convolutions pass one input
channel each, and its norms are set to undo themselves on a batch of data (``Plan.calibrate``), as in Net2Net
(arXiv 1511.05641 section 2.2) and network morphism.
"""

from __future__ import annotations

from typing import Literal

from amla.spec.base import Document
from amla.spec.graph import ConvNode, Graph, Node, weights

Channel = tuple[str | int, ...]
NEW = -1


class TensorPlan(Document):
    """How one tensor of the child begins.

    ``copy``: from the parent's tensor of the same name; ``outputs`` and ``inputs`` give, for each index of the child
    along axis 0 and 1, the parent's index or -1 (None: the axis is taken whole). ``identity``: zeros, and a one at the
    kernel's centre from input ``inputs[o]`` to output o. ``default``: as a fresh network begins.
    """

    name: str
    how: Literal["copy", "identity", "default"]
    outputs: tuple[int, ...] | None = None
    inputs: tuple[int, ...] | None = None


class Plan(Document):
    """All tensors of the child, and the norms whose scale and bias are to be set, in this order, so that they give back
    what goes into them (mean and deviation of a batch of training data)."""

    tensors: tuple[TensorPlan, ...]
    calibrate: tuple[str, ...] = ()


def surgery_plan(parent: Graph, child: Graph) -> Plan:
    """The plan that turns the train state of ``parent`` into one of ``child``."""
    old = _Channels(parent, frozenset())
    new = _Channels(child, frozenset(parent.by_name()))
    kept = parent.by_name()
    plans: list[TensorPlan] = []
    calibrate: list[str] = []
    for node in child.nodes:
        before = kept.get(node.name)
        if before is not None and before.op == node.op:
            plans += _kept(node, before, old, new)
        elif node.name in new.identity:
            plans.append(TensorPlan(name=f"{node.name}.weight", how="identity", inputs=new.identity[node.name]))
        else:
            plans += [TensorPlan(name=name, how="default") for name in _tensors(child)[node.name]]
            if node.op == "norm" and node.scale and node.inputs[0] in new.identity:
                calibrate.append(node.name)
    return Plan(tensors=tuple(plans), calibrate=tuple(calibrate))


class _Channels:
    """The identity of every channel of every node; ``known`` are the nodes that the parent has too."""

    def __init__(self, graph: Graph, known: frozenset[str]) -> None:
        self.nodes = graph.by_name()
        self.of: dict[str, list[Channel]] = {}
        self.identity: dict[str, tuple[int, ...]] = {}
        offsets = _offsets(graph)
        for node in graph.nodes:
            self.of[node.name] = self._channels(node, bool(known) and node.name not in known, offsets.get(node.name, 0))

    def _channels(self, node: Node, fresh: bool, offset: int) -> list[Channel]:
        inputs = [self.of[name] for name in node.inputs]
        if node.op == "conv":
            passes = self._passes(node, offset) if fresh else None
            if passes is None and _depthwise(node):  # one kernel a channel: the channels are still those of the input
                return [(node.name, *channel) for channel in inputs[0]]
            if passes is None:
                return [(node.name, index) for index in range(node.shape[0])]
            self.identity[node.name] = tuple(0 for _ in passes) if _depthwise(node) else passes
            return [inputs[0][index] for index in passes]
        if node.op in ("input", "zero", "dense"):
            return [(node.name, index) for index in range(node.shape[0])]
        if node.op == "concat":
            return [channel for source in inputs for channel in source]
        if node.op == "scale":
            return [(node.name, *channel) for channel in inputs[0]]
        if node.op == "flatten":
            positions = node.shape[0] // len(inputs[0])
            return [(*channel, place) for channel in inputs[0] for place in range(positions)]
        return inputs[0]  # an addition too: its terms have the same width, and its first one names the channels

    def _passes(self, node: ConvNode, offset: int) -> tuple[int, ...] | None:
        """The input channel that each output of a new convolution passes on; None where it cannot be an identity."""
        if node.stride != 1 or node.bias:
            return None
        into = len(self.of[node.inputs[0]])
        if _depthwise(node):
            return tuple(range(into))
        if node.groups != 1 or offset + node.shape[0] > into:
            return None
        return tuple(range(offset, offset + node.shape[0]))


def _offsets(graph: Graph) -> dict[str, int]:
    """For each convolution of a branch, the first channel of its branch in the layer's output: the same channel of the
    layer's input is what it passes on when it begins as an identity."""
    start: dict[str, int] = {}
    nodes = graph.by_name()
    for node in graph.nodes:
        if node.op == "concat" and node.name.endswith("/out"):
            at = 0
            for source in node.inputs:
                start[source] = at
                at += nodes[source].shape[0]
    for node in reversed(graph.nodes):
        if node.name in start and node.op in ("norm", "activation", "dropout") and node.inputs[0] not in start:
            start[node.inputs[0]] = start[node.name]
    return start


def _kept(node: Node, before: Node, old: _Channels, new: _Channels) -> list[TensorPlan]:
    """The plans of a node that parent and child both have."""
    outputs = _match(new.of[node.name], old.of[before.name])
    inputs: tuple[int, ...] | None = None
    had = _names(before)
    if node.op == "conv" and before.op == "conv" and not _same_kind(node, before):
        had = []  # a kernel of another size, or of another sort, holds nothing to copy
    if node.op == "conv" and not _depthwise(node):
        inputs = _match(new.of[node.inputs[0]], old.of[before.inputs[0]])
    elif node.op == "conv":  # depthwise: one kernel a channel, and the channels are those of the input
        outputs = _match(new.of[node.inputs[0]], old.of[before.inputs[0]])
    elif node.op == "dense":
        inputs = _match(new.of[node.inputs[0]], old.of[before.inputs[0]])
    elif node.op == "scale":
        outputs = None
    return [
        TensorPlan(name=name, how="copy", outputs=outputs, inputs=inputs if name.endswith(".weight") else None)
        if name in had
        else TensorPlan(name=name, how="default")
        for name in _names(node)
    ]


def _match(child: list[Channel], parent: list[Channel]) -> tuple[int, ...] | None:
    """The parent's index of each of the child's channels, -1 for a new one; None where nothing changes. A channel that
    stands there several times (a concatenation may repeat one) is matched in order."""
    if child == parent:
        return None
    places: dict[Channel, list[int]] = {}
    for index, channel in enumerate(parent):
        places.setdefault(channel, []).append(index)
    return tuple(places[channel].pop(0) if places.get(channel) else NEW for channel in child)


def _depthwise(node: Node) -> bool:
    return node.op == "conv" and node.groups > 1


def _same_kind(node: ConvNode, before: ConvNode) -> bool:
    return node.kernel == before.kernel and _depthwise(node) == _depthwise(before)


def _names(node: Node) -> list[str]:
    match node.op:
        case "conv":
            return [f"{node.name}.weight", *([f"{node.name}.bias"] if node.bias else [])]
        case "norm":
            scale = [f"{node.name}.weight"] if node.scale else []
            return [*scale, *(f"{node.name}.{part}" for part in ("bias", "running_mean", "running_var"))]
        case "scale":
            return [f"{node.name}.weight"]
        case "dense":
            return [f"{node.name}.weight", f"{node.name}.bias"]
        case _:
            return []


def _tensors(graph: Graph) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {node.name: [] for node in graph.nodes}
    for weight in weights(graph):
        found[weight.name.rsplit(".", 1)[0]].append(weight.name)
    return found

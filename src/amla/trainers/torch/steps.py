"""In which order a network is computed, what of it together, and when an output is let go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from amla.spec.graph import Block, Graph, Node, ZeroNode

#: A listener at a node: called with the node's name and its output, answers what flows on.
Tap = Callable[[str, Tensor], Tensor]
#: The parts of a network that have weights, by the names of their nodes.
Modules = Mapping[str, nn.Module | None]


class Joint(ABC):
    """Nodes that can be computed together, as one."""

    sources: tuple[str, ...]  # whose outputs they read
    nodes: tuple[Node, ...]  # in an order in which they can be computed one by one
    out: str  # the last of them, and the only one that others read
    inner: frozenset[str]  # those of which there is no output, computed together
    channels: Mapping[str, slice]  # the nodes whose outputs are channels of that of ``out``, and which

    @abstractmethod
    def __call__(self, modules: Modules, inputs: Sequence[Tensor], taps: Mapping[str, Tap], training: bool) -> Tensor:
        """The output of ``out``, from those of ``sources``. Taps hear the outputs of all nodes but ``inner`` and ``out``."""


class Step(NamedTuple):
    """Nodes to compute next: one, or those of a joint. ``twin`` has the same output and was computed before; after it
    nobody needs the outputs ``gone``."""

    nodes: tuple[Node, ...]
    joint: Joint | None
    twin: str | None
    gone: list[str]

    @property
    def out(self) -> str:
        return self.nodes[-1].name

    def without(self, name: str, output: Tensor) -> Tensor:
        """The output, with zeros for that of one of the nodes."""
        if self.joint is None or name == self.out:
            return torch.zeros_like(output)
        output = output.clone()
        output[:, self.joint.channels[name]] = 0.0
        return output


def steps(graph: Graph, training: bool, off: Collection[str], joints: Iterable[Joint]) -> list[Step]:
    """All that is needed of a network; zeros in the place of nodes that are off. With some off, nothing is done together."""
    joint_of = {} if off else {node.name: joint for joint in joints for node in joint.nodes}
    ends = [graph.output, *(graph.auxiliaries if training else ())]
    nodes = _needed(graph, ends, off)
    same = _twins(nodes, graph.blocks) if joint_of else {}
    found: list[Step] = []
    for node in nodes:
        joint = joint_of.get(node.name)
        if joint is None:
            found.append(Step((node,), None, same.get(node.name), []))
        elif joint.out == node.name:  # by now, all that it reads is there
            found.append(Step(joint.nodes, joint, None, []))
    last: dict[str, Step] = {}
    for step in found:
        for node in step.nodes:
            last.update(dict.fromkeys(node.inputs, step))
        if step.twin:
            last[step.twin] = step
    for name, step in last.items():
        if name not in ends:
            step.gone.append(name)
    return found


def _needed(graph: Graph, ends: Iterable[str], off: Collection[str]) -> list[Node]:
    needed = set(ends)
    nodes: list[Node] = []
    for whole in reversed(graph.nodes):
        if whole.name in needed:
            nodes.insert(0, _without(whole, off, graph.nodes[0].name) if off else whole)
            needed.update(nodes[0].inputs)
    return nodes


def _twins(nodes: Iterable[Node], blocks: Iterable[Block]) -> dict[str, str]:
    """Poolings that another does before: skips to several layers are pooled alike. By name, the first that does the same.

    Those of a branch are left alone: the gradient that reaches each is a statistic of its own.
    """
    branches = tuple(f"{block.name}/" for block in blocks if block.kind != "skip")
    first: dict[tuple[object, ...], str] = {}
    found: dict[str, str] = {}
    for node in nodes:
        if node.op == "pool" and not node.name.startswith(branches):
            read = found.get(node.inputs[0], node.inputs[0])
            name = first.setdefault((read, node.kind, node.kernel, node.stride), node.name)
            if name != node.name:
                found[node.name] = name
    return found


def _without(node: Node, off: Collection[str], source: str) -> Node:
    """The node, zeros where it is off; a sum without the zeros. Zeros take the size of the batch from ``source``."""
    if node.name in off:
        return ZeroNode(name=node.name, inputs=(source,), shape=node.shape)
    if node.op == "add":
        on = tuple(name for name in node.inputs if name not in off)
        return node.model_copy(update={"inputs": on or node.inputs[:1]})
    return node

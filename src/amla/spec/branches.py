"""The branches of a Graph that no architecture describes: which there are, and the Graph without some of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from amla.errors import SpecError
from amla.spec.graph import Block, Graph, Node, Shape

#: What stands between a branch's operation and its end.
_BEHIND = ("norm", "activation", "dropout", "identity")


def branches(graph: Graph) -> Iterator[Block]:
    """The branches that a concatenation puts next to each other, as blocks of which statistics can be taken.

    A branch ends at an input of a concatenation that nothing else reads; its operation is a convolution or a pooling, with
    norm and activation behind it. It is called after the node where it ends.
    """
    nodes = graph.by_name()
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    for node in graph.nodes:
        for end in node.inputs if node.op == "concat" and len(node.shape) == 3 else ():
            here = nodes[end]
            while here.op in _BEHIND and readers[here.name] == 1:
                here = nodes[here.inputs[0]]
            if here.op in ("conv", "pool") and readers[here.name] == 1:
                yield Block(name=end, kind=_kind(here), before_norm=here.name, output=end)


def prunable(graph: Graph) -> list[str]:
    """The names of the branches that the network can do without, one at a time."""
    found = []
    for block in (block for block in graph.blocks if block.kind != "skip"):
        try:
            pruned(graph, [block.name])
        except SpecError:
            continue
        found.append(block.name)
    return found


def pruned(graph: Graph, without: Collection[str]) -> Graph:
    """The network without these blocks, and without what served them only. What reads the concatenation has fewer inputs.

    Errors: ``SpecError`` for the last branch of a concatenation, for one whose channels are added to others or divided into
    groups, and for a block that is none.
    """
    gone = {block.output for block in graph.blocks if block.name in without}
    unknown = set(without) - {block.name for block in graph.blocks}
    if unknown:
        raise SpecError(f"no block is called {sorted(unknown)[0]!r}")
    before = {node.name: node.shape for node in graph.nodes}
    after: dict[str, Shape] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = tuple(name for name in node.inputs if node.op != "concat" or name not in gone)
        if node.op == "concat" and not inputs:
            raise SpecError(f"{node.name}: it would have no branch left")
        shapes = [after[name] for name in inputs]
        changed: dict[str, object] = {
            "inputs": inputs,
            "shape": _shape(node, [before[name] for name in inputs], shapes),
        }
        if node.op == "conv" and node.groups > 1:
            changed["groups"] = shapes[0][0]
        nodes.append(node.model_copy(update=changed))
        after[node.name] = nodes[-1].shape
    needed = {graph.output, *graph.auxiliaries}
    for node in reversed(nodes):
        needed |= set(node.inputs) if node.name in needed else set()
    if gone & needed:
        raise SpecError(f"{sorted(gone & needed)[0]}: more than a concatenation reads it")
    kept = tuple(node for node in nodes if node.name in needed or node.op == "input")
    blocks = tuple(block for block in graph.blocks if block.output in needed)
    return graph.model_copy(update={"nodes": kept, "blocks": blocks})


def _shape(node: Node, before: list[Shape], after: list[Shape]) -> Shape:
    """The shape of a node's output, now that its inputs have these shapes. Errors: ``SpecError``."""
    if before == after and node.op != "concat":
        return node.shape
    channels = after[0][0]
    if node.op == "concat":
        return (sum(shape[0] for shape in after), *node.shape[1:])
    if node.op == "add" and len(set(after)) > 1:
        raise SpecError(
            f"{node.name}: it adds what would have {' and '.join(str(shape[0]) for shape in after)} channels"
        )
    if node.op == "dense" or (node.op == "conv" and node.groups == 1):
        return node.shape
    if node.op == "conv":
        if node.groups != before[0][0]:
            raise SpecError(f"{node.name}: its groups would not fit any more")
        return (channels * (node.shape[0] // node.groups), *node.shape[1:])
    if node.op == "flatten":
        return (node.shape[0] // before[0][0] * channels,)
    return (channels, *node.shape[1:])


def _kind(node: Node) -> str:
    if node.op == "conv":
        return f"{node.kernel}x{node.kernel}" + (f"dil{node.dilation}" if node.dilation > 1 else "")
    assert node.op == "pool"
    return f"{node.kernel}x{node.kernel}{node.kind}pool"

"""Cells of a network: the branches of a layer, which one input feeds and one concatenation puts next to each other.

Found in the Graph alone; how they are computed together is for each library to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from amla.spec.graph import ActivationNode, ConcatNode, ConvNode, DropoutNode, Graph, Node, NormNode, Shape, padding

#: The rows or columns that a kernel reads, relative to the pixel that it writes: first and last.
Reach = tuple[int, int]


@dataclass(frozen=True)
class Branch:
    """One branch: a convolution, or a depthwise and a pointwise one; then norm, activation and perhaps dropout."""

    convs: tuple[ConvNode, ...]
    norm: NormNode
    activation: ActivationNode
    dropout: DropoutNode | None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (*self.convs, self.norm, self.activation, *((self.dropout,) if self.dropout else ()))

    @property
    def style(self) -> tuple[object, ...]:
        """What must be the same for branches to share a norm, an activation and a dropout."""
        norm = self.norm
        return norm.scale, norm.epsilon, norm.momentum, self.activation.kind, self.dropout and self.dropout.rate

    @property
    def plain(self) -> bool:
        """Whether it is one convolution of stride 1, or could as well be one: a depthwise and a pointwise one are."""
        return all(conv.stride == conv.dilation == 1 and not conv.bias for conv in self.convs)

    @property
    def separable(self) -> bool:
        """Whether it is a depthwise and a pointwise convolution that could as well be a dense one."""
        return len(self.convs) > 1 and self.plain


@dataclass(frozen=True)
class Cell:
    """Branches of one input and one style, and the concatenation that puts them next to each other."""

    source: str
    into: Shape
    branches: tuple[Branch, ...]
    out: ConcatNode

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All that it stands for, in an order in which they can be computed."""
        return (*(node for branch in self.branches for node in branch.nodes), self.out)


def cells_of(graph: Graph) -> Iterator[Cell]:
    """The cells of a network: concatenations of nothing but branches that nobody else reads."""
    nodes, readers = graph.by_name(), readers_in(graph)
    for node in graph.nodes:
        if node.op != "concat":
            continue
        branches = [_branch(name, nodes, readers) for name in node.inputs]
        found = [branch for branch in branches if branch is not None]
        sources = {branch.convs[0].inputs[0] for branch in found}
        styles = {branch.style for branch in found}
        if len(found) == len(branches) and len(sources) == len(styles) == 1:
            (source,) = sources
            yield Cell(source, nodes[source].shape, tuple(found), node)


def readers_in(graph: Graph) -> dict[str, int]:
    """How often every output is read, once more where it is one of the network's own."""
    readers = dict.fromkeys((node.name for node in graph.nodes), 0)
    for name in (graph.output, *graph.auxiliaries, *(name for node in graph.nodes for name in node.inputs)):
        readers[name] += 1
    return readers


def _branch(end: str, nodes: Mapping[str, Node], readers: Mapping[str, int]) -> Branch | None:
    """The branch that ends in this node; None where it is none, or where somebody reads a node inside it."""
    chain: list[Node] = []
    here = nodes[end]
    while readers[here.name] == 1 and here.op in ("dropout", "activation", "norm", "conv"):
        chain.insert(0, here)
        if here.op == "conv" and not (
            len(chain) > 1 and chain[1].op == "norm" and _separable(nodes[here.inputs[0]], here)
        ):
            break
        here = nodes[here.inputs[0]]
    convs = tuple(node for node in chain if node.op == "conv")
    rest = chain[len(convs) :]
    match rest:
        case [NormNode() as norm, ActivationNode() as activation]:
            dropout = None
        case [NormNode() as norm, ActivationNode() as activation, DropoutNode() as dropout]:
            pass
        case _:
            return None
    return Branch(convs, norm, activation, dropout) if 1 <= len(convs) <= 2 else None


def _separable(depthwise: Node, pointwise: ConvNode) -> bool:
    return (
        depthwise.op == "conv"
        and depthwise.groups == depthwise.shape[0]
        and depthwise.groups > 1
        and (pointwise.kernel, pointwise.stride, pointwise.groups) == (1, 1, 1)
    )


class Window:
    """The window of one dense convolution that stands for these branches: ``rows`` and ``columns`` that it reads.

    Taps that meet no pixel of the image are left out.
    """

    def __init__(self, branches: Sequence[Branch], into: Shape) -> None:
        self._kernels = [branch.convs[0].kernel for branch in branches]
        self.rows, self.columns = (_union([_reach(kernel, side) for kernel in self._kernels]) for side in into[1:])

    @property
    def taps(self) -> int:
        """How many pixels it reads."""
        return (self.rows[1] - self.rows[0] + 1) * (self.columns[1] - self.columns[0] + 1)

    def margins(self) -> Iterator[tuple[Reach, Reach]]:
        """For every branch, the zeros (less than none: the taps to leave out) before and after its kernel, by rows and by
        columns, that bring it to this window."""
        for kernel in self._kernels:
            before, after = padding(kernel)
            yield (
                (-self.rows[0] - before, self.rows[1] - after),
                (-self.columns[0] - before, self.columns[1] - after),
            )


def useful_taps(kernel: int, dilation: int, side: int) -> tuple[int, int]:
    """The taps (first, one past the last) of an axis that meet a real pixel anywhere on a ``side`` of so many; all where
    none does."""
    before, _ = padding(kernel, dilation)
    useful = [tap for tap in range(kernel) if abs(tap * dilation - before) < side]
    return (useful[0], useful[-1] + 1) if useful else (0, kernel)


def _reach(kernel: int, side: int) -> Reach:
    """What of a kernel can meet a pixel of an axis of this side."""
    before, _ = padding(kernel)
    first, end = useful_taps(kernel, 1, side)
    return first - before, end - 1 - before


def _union(reaches: Sequence[Reach]) -> Reach:
    return min((first for first, _ in reaches), default=0), max((last for _, last in reaches), default=0)

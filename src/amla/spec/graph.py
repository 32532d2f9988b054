"""``Graph``: what an ML library is asked to build. A flat DAG of named nodes over a small vocabulary, static shapes.

Conventions that every trainer and exporter follows:

- shapes are (channels, height, width) or (features,), without the batch;
- convolutions and poolings are padded so that the output side is ceil(input side / stride): ``padding(kernel, dilation)``
  gives the pixels before and after, the same for both axes. Max pooling pads with -infinity, average pooling counts
  real pixels only;
- weights are named ``NODE.weight`` and so on and laid out as ``weights`` says: (out, in / groups, height, width) for a
  convolution, (out, in) for a dense layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from amla.spec.base import Document

Shape = tuple[int, ...]
ActivationKind = Literal["relu", "relu6", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]


class _Node(Document):
    name: str
    inputs: tuple[str, ...]
    shape: Shape


class InputNode(_Node):
    op: Literal["input"] = "input"


class ConvNode(_Node):
    """A convolution; depthwise where ``groups`` is the number of input channels."""

    op: Literal["conv"] = "conv"
    kernel: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = False


class NormNode(_Node):
    """Batch normalisation: always centred, scaled where ``scale``. ``momentum`` is the weight of the new batch."""

    op: Literal["norm"] = "norm"
    scale: bool = True
    epsilon: float = 1e-5
    momentum: float = 0.1


class ActivationNode(_Node):
    op: Literal["activation"] = "activation"
    kind: ActivationKind = "relu"


class PoolNode(_Node):
    op: Literal["pool"] = "pool"
    kind: Literal["max", "avg"]
    kernel: int
    stride: int


class IdentityNode(_Node):
    op: Literal["identity"] = "identity"


class ZeroNode(_Node):
    """Zeros of the given shape, whatever comes in."""

    op: Literal["zero"] = "zero"


class ScaleNode(_Node):
    """The input times one learned scalar, which begins at ``init``."""

    op: Literal["scale"] = "scale"
    init: float = 0.5


class AddNode(_Node):
    op: Literal["add"] = "add"


class ConcatNode(_Node):
    """Concatenation over channels; with one input, that input."""

    op: Literal["concat"] = "concat"


class LRNNode(_Node):
    """x / (bias + alpha * sum of x^2 over a window of ``size`` channels) ** beta. (torch and ONNX divide alpha by size.)"""

    op: Literal["lrn"] = "lrn"
    size: int
    alpha: float
    beta: float
    bias: float


class DropoutNode(_Node):
    op: Literal["dropout"] = "dropout"
    rate: float


class CutoutNode(_Node):
    op: Literal["cutout"] = "cutout"
    size: int


class GlobalPoolNode(_Node):
    """The mean over positions: (channels, height, width) -> (channels,)."""

    op: Literal["global_pool"] = "global_pool"


class FlattenNode(_Node):
    op: Literal["flatten"] = "flatten"


class DenseNode(_Node):
    op: Literal["dense"] = "dense"


Node = Annotated[
    InputNode
    | ConvNode
    | NormNode
    | ActivationNode
    | PoolNode
    | IdentityNode
    | ZeroNode
    | ScaleNode
    | AddNode
    | ConcatNode
    | LRNNode
    | DropoutNode
    | CutoutNode
    | GlobalPoolNode
    | FlattenNode
    | DenseNode,
    Field(discriminator="op"),
]


class Block(Document):
    """A part of the network that statistics are taken of (a branch, a node of a cell) or a skip connection.

    ``before_norm`` and ``output`` name the nodes whose outputs are its feature map before the norm, and after norm and
    activation. ``kind`` is the operation's name, or ``skip``.
    """

    name: str
    kind: str
    before_norm: str
    output: str


class Graph(Document):
    """Nodes in an order in which they can be computed. ``output`` gives the logits, ``auxiliaries`` the logits of the
    auxiliary classifiers."""

    format: Literal["amla/graph"] = "amla/graph"
    version: Literal[1] = 1
    nodes: tuple[Node, ...]
    output: str
    auxiliaries: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise ValueError(f"two nodes are called {node.name!r}")
            for name in node.inputs:
                if name not in seen:
                    raise ValueError(f"{node.name}: its input {name!r} does not stand before it")
            seen.add(node.name)
        for name in (self.output, *self.auxiliaries):
            if name not in seen:
                raise ValueError(f"the output {name!r} is no node")
        return self

    @property
    def input_shape(self) -> Shape:
        return self.nodes[0].shape

    @property
    def num_classes(self) -> int:
        return self.node(self.output).shape[0]

    def node(self, name: str) -> Node:
        """The node of that name. Errors: ``KeyError``."""
        return self.by_name()[name]

    def by_name(self) -> dict[str, Node]:
        """All nodes by their names."""
        return {node.name: node for node in self.nodes}

    def inference(self) -> Graph:
        """The same network without what exists for training only: dropout, cutout, auxiliary classifiers."""
        needed = _ancestors(self, self.output)
        passed: dict[str, str] = {}
        nodes: list[Node] = []
        for node in self.nodes:
            if node.name not in needed:
                continue
            inputs = tuple(passed.get(name, name) for name in node.inputs)
            if node.op in ("dropout", "cutout", "identity"):
                passed[node.name] = inputs[0]
            else:
                nodes.append(node.model_copy(update={"inputs": inputs}))
        return Graph(nodes=tuple(nodes), output=passed.get(self.output, self.output))


class Weight(NamedTuple):
    """One tensor of a network: its name, its shape, and whether it is trained (running statistics are not)."""

    name: str
    shape: Shape
    trained: bool = True


def padding(kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Pixels before and after, for an output side of ceil(side / stride) with any stride."""
    total = (kernel - 1) * dilation
    return total // 2, total - total // 2


def weights(graph: Graph) -> Iterator[Weight]:
    """All tensors of a network, node by node."""
    shapes = {node.name: node.shape for node in graph.nodes}
    for node in graph.nodes:
        channels = node.shape[0]
        if node.op == "conv":
            into = shapes[node.inputs[0]][0]
            yield Weight(f"{node.name}.weight", (channels, into // node.groups, node.kernel, node.kernel))
            if node.bias:
                yield Weight(f"{node.name}.bias", (channels,))
        elif node.op == "norm":
            if node.scale:
                yield Weight(f"{node.name}.weight", (channels,))
            yield Weight(f"{node.name}.bias", (channels,))
            yield Weight(f"{node.name}.running_mean", (channels,), trained=False)
            yield Weight(f"{node.name}.running_var", (channels,), trained=False)
        elif node.op == "scale":
            yield Weight(f"{node.name}.weight", (1,))
        elif node.op == "dense":
            yield Weight(f"{node.name}.weight", (channels, shapes[node.inputs[0]][0]))
            yield Weight(f"{node.name}.bias", (channels,))


def _ancestors(graph: Graph, output: str) -> set[str]:
    needed = {output}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return needed

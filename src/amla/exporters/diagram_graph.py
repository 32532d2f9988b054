"""A Graph as one cell, for its picture: convolutions, poolings and joins; norms and activations are not drawn.

A depthwise convolution that a 1x1 convolution alone reads is one separable convolution.
"""

from __future__ import annotations

from collections import Counter

from amla.spec import graph as g
from amla.spec.architecture import Cell, CellNode, DenseStep, GlobalPoolStep, MicroArchitecture, Placement

WHOLE, FIRST = "network", "images"


def as_cell(graph: g.Graph) -> MicroArchitecture:
    """The network of one cell that is drawn; its first node reads the images."""
    nodes = graph.by_name()
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    place: dict[str, str] = {}
    drawn: list[CellNode] = []
    for node in graph.nodes:
        sources = [place[name] for name in node.inputs]
        operation = _operation(node, nodes)
        if operation is None or (operation in ("add", "concat") and len(sources) < 2):
            place[node.name] = sources[0] if sources else FIRST
        elif isinstance(node, g.ConvNode) and node.kernel == 1 and _is_depthwise(node.inputs[0], nodes, readers):
            place[node.name] = sources[0]  # the pointwise half of what is drawn already
        else:
            place[node.name] = f"node{len(drawn) + 1}"
            stride = node.stride if isinstance(node, g.ConvNode | g.PoolNode) else 1
            drawn.append(
                CellNode(
                    name=place[node.name], operation=operation, inputs=tuple(dict.fromkeys(sources)), stride=stride
                )
            )
    if not drawn:
        drawn = [CellNode(name="node1", operation="identity", inputs=(FIRST,))]
    return MicroArchitecture(
        stem=(),
        cells={WHOLE: Cell(inputs={FIRST: 0}, nodes=tuple(drawn))},
        network=(Placement(name=WHOLE, cell=WHOLE, width=1 if len(graph.input_shape) < 3 else graph.input_shape[0]),),
        head=(GlobalPoolStep(), DenseStep())
        if any(node.op == "global_pool" for node in graph.nodes)
        else (DenseStep(),),
    )


def _operation(node: g.Node, nodes: dict[str, g.Node]) -> str | None:
    match node.op:
        case "conv" if node.dilation > 1:
            return f"{node.kernel}x{node.kernel}dil{node.dilation}"
        case "conv":
            kind = "sep" if 1 < node.groups == nodes[node.inputs[0]].shape[0] else ""
            return f"{node.kernel}x{node.kernel}{kind}"
        case "pool":
            return f"{node.kernel}x{node.kernel}{node.kind}pool"
        case "add" | "concat":
            return node.op
        case _:
            return None


def _is_depthwise(name: str, nodes: dict[str, g.Node], readers: Counter[str]) -> bool:
    node = nodes[name]
    return isinstance(node, g.ConvNode) and 1 < node.groups == nodes[node.inputs[0]].shape[0] and readers[name] == 1

"""``network.py``: the network as plain torch code that a person would keep. It imports torch and safetensors, not amla.

Nodes that follow one another under one name (a branch: convolution, norm, activation) become one ``block`` of named parts,
so that a weight's name in the file is the Graph's name with dashes for slashes, and ``load`` needs no table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights
from amla.exporters.folder import check
from amla.exporters.source_text import FOOTER, HEADER, HELPERS
from amla.spec.costs import costs
from amla.spec.graph import Graph, Node, padding

FILE = "network.py"
WIDTH = 120

_ACTIVATIONS = {
    "relu": "nn.ReLU()",
    "relu6": "nn.ReLU6()",
    "leaky_relu": "nn.LeakyReLU()",
    "gelu": "nn.GELU()",
    "silu": "nn.SiLU()",
    "tanh": "nn.Tanh()",
    "sigmoid": "nn.Sigmoid()",
}
_JOINS = ("add", "concat")


class SourceExporter(Exporter):
    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        check(model, weights)
        artifacts.write(str(folder), FILE, source(model).encode())
        return [folder / FILE]


class _Chain(NamedTuple):
    """Nodes that run one after the other, and the name of the attribute that holds them."""

    attribute: str
    nodes: tuple[Node, ...]


def source(model: Model) -> str:
    """The code. Formatted, and the same for the same model."""
    graph = model.graph().inference()
    chains = list(_chains(graph))
    found = costs(graph)
    body = _network(chains, graph)
    helpers = [text for name, text in HELPERS.items() if name in body]
    header = HEADER.format(
        classes=len(model.data.classes),
        parameters=f"{found.parameters:,}",
        flops=f"{found.flops:,}",
        names=_listed("CLASSES = ", model.data.classes),
        shape=graph.input_shape,
        scale=255 if model.data.dtype == "uint8" else 1,
        mean=_listed("MEAN = ", model.data.mean),
        std=_listed("STD = ", model.data.std),
    )
    parts = [header, *helpers, body, FOOTER]
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _listed(start: str, values: Sequence[Any]) -> str:
    """A tuple on one line where it fits, else one value a line, as a formatter would have it."""
    shown = [
        repr(value).replace("'", '"') if isinstance(value, str) and '"' not in value else repr(value)
        for value in values
    ]
    one = start + "(" + ", ".join(shown) + ("," if len(shown) == 1 else "") + ")"
    return one if len(one) <= WIDTH else start + "(\n" + "".join(f"    {value},\n" for value in shown) + ")"


def _network(chains: list[_Chain], graph: Graph) -> str:
    lines = [
        "class Network(nn.Module):",
        '    """Images (n, channels, height, width) as they are -> logits (n, classes)."""',
        "",
    ]
    lines += ["    def __init__(self) -> None:", "        super().__init__()"]
    lines += ['        self.register_buffer("mean", torch.tensor(MEAN).view(1, -1, 1, 1), persistent=False)']
    lines += ['        self.register_buffer("std", torch.tensor(STD).view(1, -1, 1, 1), persistent=False)']
    section = ""
    for chain in chains:
        defined = _definition(chain, graph)
        if defined:
            new = _section(chain)
            lines += [f"        # {new}"] if new != section else []
            section = new
            lines += [f"        {line}" for line in defined]
    lines += ["", "    def forward(self, images: torch.Tensor) -> torch.Tensor:"]
    lines += ["        x = (images - self.mean) / self.std"]
    names = {graph.nodes[0].name: "x"}
    section = ""
    for chain in chains:
        new = _section(chain)
        lines += [f"        # {new}"] if new != section else []
        section = new
        lines += [f"        {line}" for line in _statement(chain, names)]
        names[chain.nodes[-1].name] = chain.attribute
    return "\n".join([*lines, f"        return {names[graph.output]}"])


def _chains(graph: Graph) -> Iterator[_Chain]:
    """The nodes but the input, cut where another name begins, where several nodes read an output, or several are joined."""
    readers: dict[str, int] = {graph.output: 1}
    for node in graph.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    open_chain: list[Node] = []
    taken: set[str] = set()
    for node in graph.nodes[1:]:
        last = open_chain[-1] if open_chain else None
        follows = (
            last is not None
            and node.op not in _JOINS
            and last.op not in _JOINS
            and node.inputs == (last.name,)
            and readers[last.name] == 1
            and _parent(node) == _parent(last)
        )
        if open_chain and not follows:
            yield from _named(open_chain, taken)
            open_chain = []
        open_chain.append(node)
    yield from _named(open_chain, taken)


def _named(nodes: list[Node], taken: set[str]) -> Iterator[_Chain]:
    parent = _identifier(_parent(nodes[0]))
    if len(nodes) == 1 or parent in taken:
        for node in nodes:
            yield _Chain(_identifier(node.name), (node,))
    else:
        taken.add(parent)
        yield _Chain(parent, tuple(nodes))


def _definition(chain: _Chain, graph: Graph) -> list[str]:
    """The lines that make a chain's modules; none where it only joins."""
    if chain.nodes[0].op in _JOINS:
        return []
    if len(chain.nodes) == 1:
        return [f"self.{chain.attribute} = {_module(chain.nodes[0], graph)}"]
    parts = [f"{_identifier(node.name.rsplit('/', 1)[1])}={_module(node, graph)}" for node in chain.nodes]
    return _call(f"self.{chain.attribute} = block(", parts, ")")


def _statement(chain: _Chain, names: dict[str, str]) -> list[str]:
    first = chain.nodes[0]
    inputs = [names[name] for name in first.inputs]
    if first.op == "concat":
        if len(inputs) == 1:
            return [f"{chain.attribute} = {inputs[0]}"]
        return _call(f"{chain.attribute} = torch.cat([", inputs, "], 1)", nested=True)
    if first.op == "add":
        return _call(f"{chain.attribute} = sum_of(", inputs, ")")
    return [f"{chain.attribute} = self.{chain.attribute}({inputs[0]})"]


def _call(start: str, arguments: Sequence[str], end: str, nested: bool = False) -> list[str]:
    """One line where it fits, else one argument a line, as a formatter would have it (8 spaces stand before it)."""
    one = f"{start}{', '.join(arguments)}{end}"
    if len(one) + 8 <= WIDTH:
        return [one]
    if not nested:
        return [start, *(f"    {argument}," for argument in arguments), end]
    head = start.removesuffix("[")
    return [head, "    [", *(f"        {argument}," for argument in arguments), "    ],", "    1,", ")"]


def _module(node: Node, graph: Graph) -> str:
    return _MODULES[node.op](node, graph)


def _conv(node: Any, graph: Graph) -> str:
    into = graph.node(node.inputs[0]).shape[0]
    before, after = padding(node.kernel, node.dilation)
    options = [f"stride={node.stride}"] if node.stride != 1 else []
    options += [f"padding={before}"] if before == after and before else []
    options += [f"dilation={node.dilation}"] if node.dilation != 1 else []
    options += [f"groups={node.groups}"] if node.groups != 1 else []
    options += [] if node.bias else ["bias=False"]
    conv = f"nn.Conv2d({', '.join([str(into), str(node.shape[0]), str(node.kernel), *options])})"
    return conv if before == after else f"Padded({conv}, {(before, after)})"


def _norm(node: Any, graph: Graph) -> str:  # noqa: ARG001  # all makers take the graph
    return f"nn.BatchNorm2d({node.shape[0]}, eps={node.epsilon!r})"


def _pool(node: Any, graph: Graph) -> str:  # noqa: ARG001
    before, after = padding(node.kernel)
    kind = "Max" if node.kind == "max" else "Avg"
    counted = "" if node.kind == "max" else ", count_include_pad=False"
    if before == after:
        edge = f", padding={before}" if before else ""
        return f"nn.{kind}Pool2d({node.kernel}, {node.stride}{edge}{counted})"
    if (before, node.stride) == (0, node.kernel):  # rounding up takes in the same pixels as a rim would
        return f"nn.{kind}Pool2d({node.kernel}, {node.stride}, ceil_mode=True{counted})"
    return f'UnevenPool("{node.kind}", {node.kernel}, {node.stride})'


def _plain(text: str) -> Callable[[Any, Graph], str]:
    return lambda node, graph: text  # noqa: ARG005


_MODULES: dict[str, Callable[[Any, Graph], str]] = {
    "conv": _conv,
    "norm": _norm,
    "pool": _pool,
    "activation": lambda node, graph: _ACTIVATIONS[node.kind],  # noqa: ARG005
    "zero": lambda node, graph: f"Zero({tuple(node.shape)})",  # noqa: ARG005
    "scale": lambda node, graph: f"Scale({node.init})",  # noqa: ARG005
    "lrn": lambda node, graph: (  # noqa: ARG005
        f"nn.LocalResponseNorm({node.size}, {node.alpha * node.size!r}, {node.beta!r}, {node.bias!r})"
    ),
    "global_pool": _plain("GlobalPool()"),
    "flatten": _plain("nn.Flatten()"),
    "dense": lambda node, graph: f"nn.Linear({graph.node(node.inputs[0]).shape[0]}, {node.shape[0]})",
}


def _parent(node: Node) -> str:
    return node.name.rpartition("/")[0]


def _identifier(name: str) -> str:
    return name.replace("/", "_")


def _section(chain: _Chain) -> str:
    """What a comment calls the part that a chain belongs to: its stage and layer, or the stem, or the head."""
    return "/".join(chain.nodes[0].name.split("/")[: 2 if chain.nodes[0].name.startswith("stage") else 1])

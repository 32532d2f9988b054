"""``network_keras.py``: the network as plain Keras code. It does not import amla, and neither does this module import Keras.

Every layer with weights is called after its node, with dots for slashes, so that its tensors in ``model.safetensors`` are
found by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights, live_nodes
from amla.exporters.chains import Names
from amla.exporters.folder import check
from amla.exporters.pretty import INDENT, Call, Expression, Items, lines, string
from amla.exporters.source import described, rendered
from amla.spec import graph as g

FILE = "network_keras.py"


class KerasSourceExporter(Exporter):
    """Writes ``network_keras.py``, which loads the ``model.safetensors`` beside it. The same text for the same model."""

    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        check(model, weights)
        artifacts.write(str(folder), FILE, keras_source(model).encode())
        return [folder / FILE]


def keras_source(model: Model) -> str:
    """The text of ``network_keras.py``, formatted as ``ruff format`` would with lines of 120."""
    graph = model.graph().inference()
    writer = _Writer(live_nodes(graph), graph.output)
    return rendered(
        "network_keras.py.jinja",
        **described(model),
        input_shape=model.data.shape,
        body="\n".join(writer.body()),
        output=writer.values[graph.output],
        helpers=writer.helpers,
    )


class _Writer:
    """One statement a node. A value that only the next statement reads is called ``x``."""

    def __init__(self, nodes: list[g.Node], output: str) -> None:
        self.nodes, self.output = nodes, output
        self.shapes = {node.name: node.shape for node in nodes}
        self.names = Names(RESERVED)
        self.values: dict[str, str] = {"input": "x"}
        self.helpers: set[str] = set()
        self.readers = Counter(name for node in nodes if node.op != "zero" for name in node.inputs)

    def body(self) -> Iterator[str]:
        """The statements between the normalised images, in ``x``, and the return."""
        computed = [node for node in self.nodes if node.op != "input"]
        if not computed or self.readers["input"] != 1 or "input" not in computed[0].inputs:
            self.values["input"] = "pixels"
            yield f"{INDENT}pixels = x"
        section = ""
        for node, following in zip(computed, [*computed[1:], None], strict=True):
            if _section(node.name) != section:
                section = _section(node.name)
                yield f"{INDENT}# {section}"
            value = self._expression(node)
            passes = following is not None and node.name in following.inputs and following.op != "zero"
            lone = self.readers[node.name] == 1 and passes
            self.values[node.name] = "x" if lone or node.name == self.output else self.names.give(_short(node.name))
            yield from lines(f"{self.values[node.name]} = ", value, INDENT)

    def _help(self, helper: str, arguments: list[str]) -> Call:
        self.helpers.add(helper)
        return Call(helper, arguments)

    def _expression(self, node: g.Node) -> Expression:
        inputs = [self.values[name] for name in node.inputs] if node.op != "zero" else []
        title = string(node.name.replace("/", "."))
        match node.op:
            case "conv":
                settings = {"stride": node.stride, "dilation": node.dilation, "groups": node.groups}
                given = [f"{name}={value}" for name, value in settings.items() if value != 1]
                given += ["bias=True"] if node.bias else []
                return self._help("conv", [*inputs, title, str(node.shape[0]), str(node.kernel), *given])
            case "norm":
                options = [f"momentum={1.0 - node.momentum:.6g}", f"epsilon={node.epsilon}", f"name={title}"]
                options[:0] = [] if node.scale else ["scale=False"]
                return _applied("layers.BatchNormalization", options, inputs)
            case "activation":
                return ACTIVATIONS[node.kind].replace("$", inputs[0])
            case "pool":
                return self._help("pool", [*inputs, string(node.kind), str(node.kernel), str(node.stride)])
            case "scale":
                return self._help("scale", [*inputs, title])
            case "lrn":
                numbers = [node.size, node.alpha, node.beta, node.bias]
                return self._help("response_norm", [*inputs, *map(str, numbers)])
            case "global_pool":
                return _applied("layers.GlobalAveragePooling2D", [], inputs)
            case "flatten":
                return self._help("flatten", inputs) if len(self.shapes[node.inputs[0]]) > 1 else inputs[0]
            case "dense":
                return _applied("layers.Dense", [str(node.shape[0]), f"name={title}"], inputs)
            case "zero":
                return self._help("zeros", ["images", str((*node.shape[1:], node.shape[0]))])
            case "add" | "concat" if len(inputs) == 1:
                return inputs[0]
            case "add":
                return Call("layers.add", [Items(inputs)])
            case "concat":
                return Call("layers.concatenate", [Items(inputs)])
            case _:
                return inputs[0]


#: What a value may not be called: what the code uses itself.
RESERVED = frozenset(
    {
        "arranged",
        "build",
        "classify",
        "conv",
        "flatten",
        "images",
        "keras",
        "layers",
        "load",
        "load_file",
        "np",
        "ops",
        "pixels",
        "pool",
        "response_norm",
        "scale",
        "x",
        "zeros",
    }
)

ACTIVATIONS = {
    "relu": "layers.ReLU()($)",
    "relu6": "layers.ReLU(max_value=6)($)",
    "leaky_relu": "layers.LeakyReLU(negative_slope=0.01)($)",
    "gelu": "ops.gelu($, approximate=False)",
    "silu": "ops.silu($)",
    "tanh": "ops.tanh($)",
    "sigmoid": "ops.sigmoid($)",
}


def _applied(layer: str, options: list[str], inputs: list[str]) -> Expression:
    """``Layer(options)(input)``."""
    return f"{layer}({', '.join(options)})({inputs[0]})"


def _section(name: str) -> str:
    """The part of the network that a node belongs to: a layer, a cell, the stem."""
    parts = name.split("/")
    return parts[0] if parts[0] in ("stem", "head") or len(parts) < 3 else "/".join(parts[:2])


def _short(name: str) -> str:
    """A node's name as a value's: of a layer's output, the layer's."""
    return name.removesuffix("/out")

"""The Graph as a person would write it in torch: attributes of a module, and the lines of its ``forward``.

Nodes that follow one another inside one block (a branch, the stem, a skip) become one attribute, a *chain*. What has one
reader is written where it is read; what has several gets a name.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from amla.exporters.modules import Item, Modules
from amla.exporters.pretty import Call, Expression, Sum, lines
from amla.spec import graph as g

#: Names that a torch module uses itself, or that ``forward`` does.
RESERVED = frozenset(
    {
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "concat",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "images",
        "ipu",
        "load_state_dict",
        "mean",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "nn",
        "parameters",
        "pixels",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "self",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "std",
        "to",
        "to_empty",
        "torch",
        "train",
        "training",
        "type",
        "x",
        "xpu",
        "zero_grad",
    }
)


@dataclass
class Chain:
    """Modules one behind the other: nodes of the Graph, in order."""

    key: str
    nodes: list[g.Node]
    attribute: str = ""
    items: list[Item] = field(default_factory=list)

    @property
    def expression(self) -> Expression:
        """What the attribute is set to."""
        if len(self.items) == 1:
            return self.items[0].expression
        return Call("nn.Sequential", [item.expression for item in self.items])

    def places(self) -> Iterator[tuple[str, str]]:
        """(node, submodule) for every node that holds weights."""
        for index, item in enumerate(self.items):
            inside = f".{index}" if len(self.items) > 1 else ""
            for node, place in item.places.items():
                yield node, f"{self.attribute}{inside}{place}"


#: The normalised images, in ``forward``.
PIXELS = "pixels"
Part = Chain | g.Node  # a chain, or a join: concat, add, zero


class Names:
    """Python names out of the Graph's, each given once, none of them ``reserved``."""

    def __init__(self, reserved: frozenset[str] = RESERVED) -> None:
        self.reserved = reserved
        self.given: set[str] = set()

    def give(self, name: str) -> str:
        wanted = name.replace("/", "_")
        if not wanted.isidentifier() or keyword.iskeyword(wanted) or wanted in self.reserved or wanted.startswith("_"):
            wanted = f"block_{wanted}"
        number, found = 1, wanted
        while found in self.given:
            number += 1
            found = f"{wanted}_{number}"
        self.given.add(found)
        return found


class Layout:
    """Chains and joins of a network in the order of computation. ``depth``: parts of a name that make a section."""

    def __init__(self, nodes: list[g.Node], output: str, depth: int) -> None:
        self.depth = depth
        self.shapes = {node.name: node.shape for node in nodes}
        self.modules = Modules(self.shapes)
        self.alias: dict[str, str] = {}
        self.readers: Counter[str] = Counter([output])
        self.parts: list[Part] = []
        self.output = output
        for node in nodes:
            self.readers.update(node.inputs if node.op != "zero" else ())
        for node in nodes:
            if node.op != "input":
                self._place(node)
        names = Names()
        keys = Counter(chain.key for chain in self.chains)
        for chain in self.chains:
            chain.attribute = names.give(chain.key if keys[chain.key] == 1 else chain.nodes[0].name)
            chain.items = self.modules.items(chain.nodes)

    @property
    def chains(self) -> list[Chain]:
        return [part for part in self.parts if isinstance(part, Chain)]

    @property
    def helpers(self) -> set[str]:
        """The functions and classes that the code needs beside the network."""
        concat = any(not isinstance(part, Chain) and part.op == "concat" for part in self.parts)
        return self.modules.used | ({"concat"} if concat else set())

    def _place(self, node: g.Node) -> None:
        if node.op in ("concat", "add") and len(node.inputs) == 1:  # passes on what it gets
            self.alias[node.name] = node.inputs[0]
            self.readers[self.source(node.name)] += self.readers[node.name] - 1
            return
        if node.op in ("concat", "add", "zero"):
            self.parts.append(node)
            return
        source = self.source(node.inputs[0])
        key = self._key(node.name)
        for chain in self.chains:
            if chain.nodes[-1].name == source and self.readers[source] == 1 and f"{key}/".startswith(f"{chain.key}/"):
                chain.nodes.append(node)
                return
        self.parts.append(Chain(key, [node]))

    def source(self, name: str) -> str:
        """The node that makes a value."""
        while name in self.alias:
            name = self.alias[name]
        return name

    def section(self, name: str) -> str:
        """The part of the network that a node belongs to: ``stem``, ``stage1/layer2``, a cell."""
        first = name.split("/", 1)[0]
        return first if first in ("stem", "head") else "/".join(name.split("/")[: self.depth])

    def _key(self, name: str) -> str:
        section = self.section(name)
        return section if section in ("stem", "head") else name.rsplit("/", 1)[0]

    # -------------------------------------------------------------------------------------------------------- source lines
    def attributes(self, indent: str) -> list[str]:
        """``self.NAME = ...`` for every chain, under a heading for every section."""
        found: list[str] = []
        section = ""
        for chain in self.chains:
            if self.section(chain.key) != section:
                section = self.section(chain.key)
                found.append(f"{indent}# {section}")
            found += lines(f"self.{chain.attribute} = ", chain.expression, indent)
        return found

    def forward(self, indent: str) -> list[str]:
        """The statements between the normalised images, in ``pixels``, and the return of the logits."""
        writer = _Forward(self)
        found: list[str] = []
        section = ""
        for statement in writer.statements():
            if statement.section != section:
                section = statement.section
                found.append(f"{indent}# {section}{writer.sizes(section)}")
            found += lines(statement.prefix, statement.expression, indent)
        return found


@dataclass
class _Statement:
    section: str
    prefix: str
    expression: Expression


class _Forward:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.names = Names()
        self.values: dict[str, Expression] = {}

    def sizes(self, section: str) -> str:
        """The shape that a section gives, as a comment says it."""
        last = [name for name in self.layout.shapes if self.layout.section(name) == section][-1]
        return f": {' x '.join(map(str, self.layout.shapes[last]))}"

    def statements(self) -> Iterator[_Statement]:
        layout = self.layout
        self.values["input"] = PIXELS
        for part in layout.parts:
            output = _output(part)
            expression = self._expression(part)
            section = layout.section(output)
            if output == layout.source(layout.output):
                yield _Statement(section, "return ", expression)
            elif self._inlines(part):
                self.values[output] = expression
            else:
                name = self._name(part)
                self.values[output] = name
                yield _Statement(section, f"{name} = ", expression)

    def _inlines(self, part: Part) -> bool:
        """Whether a value is written where it is read: it has one reader, in the same section, and is a chain on a named
        value inside a join, or a concatenation that is the input of a chain. Nothing nests deeper."""
        layout, output = self.layout, _output(part)
        if layout.readers[output] != 1:
            return False
        reader = next(other for other in layout.parts if output in map(layout.source, _inputs(other)))
        if layout.section(_output(reader)) != layout.section(output):
            return False
        if isinstance(part, Chain):
            return not isinstance(reader, Chain) and isinstance(self.values[layout.source(_inputs(part)[0])], str)
        return part.op == "concat" and isinstance(reader, Chain)

    def _expression(self, part: Part) -> Expression:
        inputs = [self.values[self.layout.source(name)] for name in _inputs(part)]
        if isinstance(part, Chain):
            return Call(f"self.{part.attribute}", inputs)
        if part.op == "zero":
            return Call(f"{PIXELS}.new_zeros", [f"{PIXELS}.shape[0]", *map(str, part.shape)])
        return Sum(inputs) if part.op == "add" else Call("concat", inputs)

    def _name(self, part: Part) -> str:
        """A layer's output is named after the layer, the input of its branches is ``x``, all else is named after itself."""
        output = _output(part)
        if not isinstance(part, Chain):
            return self.names.give(output.removesuffix("/out"))
        readers = [other for other in self.layout.parts if output in map(self.layout.source, _inputs(other))]
        section = self.layout.section(output)
        if part.key == f"{section}/bottleneck" and {self.layout.section(_output(o)) for o in readers} == {section}:
            return "x"
        layers = [name for name, source in self.layout.alias.items() if source == output and name.endswith("/out")]
        return self.names.give(layers[0].removesuffix("/out") if layers else part.attribute)


def _output(part: Part) -> str:
    return part.nodes[-1].name if isinstance(part, Chain) else part.name


def _inputs(part: Part) -> tuple[str, ...]:
    """The nodes whose values a part reads; a zero reads none."""
    if isinstance(part, Chain):
        return part.nodes[0].inputs
    return () if part.op == "zero" else part.inputs

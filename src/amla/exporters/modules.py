"""One torch module a node of the Graph, as source code; well-known runs of nodes become a call of a helper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amla.exporters.pretty import Call, Expression, flat
from amla.spec import graph as g

ACTIVATIONS = {
    "relu": "nn.ReLU()",
    "relu6": "nn.ReLU6()",
    "leaky_relu": "nn.LeakyReLU()",
    "gelu": "nn.GELU()",
    "silu": "nn.SiLU()",
    "tanh": "nn.Tanh()",
    "sigmoid": "nn.Sigmoid()",
}

#: Helper -> how many nodes a call of it stands for, by what they are.
HELPERS: dict[str, tuple[str, ...]] = {
    "separable_norm_act": ("depthwise", "pointwise", "norm", "activation"),
    "act_separable_norm": ("activation", "depthwise", "pointwise", "norm"),
    "conv_norm_act": ("conv", "norm", "activation"),
    "act_conv_norm": ("activation", "conv", "norm"),
}


@dataclass(frozen=True)
class Item:
    """A module in a chain: its expression, and where the nodes that hold weights stand in it (``""`` or ``.1``)."""

    expression: Expression
    places: dict[str, str] = field(default_factory=dict)


@dataclass
class Modules:
    """Turns runs of nodes into modules; ``used`` are the helpers that the code then needs."""

    shapes: dict[str, g.Shape]
    used: set[str] = field(default_factory=set)

    def items(self, nodes: Sequence[g.Node]) -> list[Item]:
        """The modules that stand for ``nodes``, one after the other."""
        found: list[Item] = []
        at = 0
        while at < len(nodes):
            helper = next((name for name, parts in HELPERS.items() if self._is(nodes[at:], parts)), None)
            if helper is None:
                found += self._single(nodes[at])
                at += 1
            else:
                run = nodes[at : at + len(HELPERS[helper])]
                found.append(self._helped(helper, run))
                at += len(run)
        return found

    def _is(self, nodes: Sequence[g.Node], parts: tuple[str, ...]) -> bool:
        return len(nodes) >= len(parts) and all(_part(n) == p for n, p in zip(nodes, parts, strict=False))

    def _helped(self, helper: str, run: Sequence[g.Node]) -> Item:
        self.used.add(helper)
        convs = [node for node in run if isinstance(node, g.ConvNode)]
        first = convs[0]
        arguments = [str(self.shapes[first.inputs[0]][0]), str(convs[-1].shape[0]), str(first.kernel)]
        arguments += _unless(first, stride=1, dilation=1)
        places = {node.name: f".{index}" for index, node in enumerate(run) if node.op in ("conv", "norm")}
        if any(node.op == "norm" and not node.scale for node in run):
            self.used.add("CentredNorm")
        return Item(Call(helper, arguments), places)

    def _single(self, node: g.Node) -> list[Item]:
        made = _MAKE[node.op](self, node)
        *before, last = made
        weighted = node.op in ("conv", "norm", "scale", "dense")
        return [*(Item(expression) for expression in before), Item(last, {node.name: ""} if weighted else {})]

    # ------------------------------------------------------------------------------------------------ one method, one node
    def conv(self, node: g.ConvNode) -> list[Expression]:
        before, after = g.padding(node.kernel, node.dilation)
        arguments = [str(self.shapes[node.inputs[0]][0]), str(node.shape[0]), str(node.kernel)]
        arguments += _unless(node, stride=1)
        if before == after != 0:
            arguments.append(f"padding={before}")
        arguments += _unless(node, dilation=1, groups=1, bias=True)
        padded: list[Expression] = [] if before == after else [f"nn.ZeroPad2d({_sides(before, after)})"]
        return [*padded, Call("nn.Conv2d", arguments)]

    def norm(self, node: g.NormNode) -> list[Expression]:
        if not node.scale:
            self.used.add("CentredNorm")
        return [norm(node, str(node.shape[0]))]

    def activation(self, node: g.ActivationNode) -> list[Expression]:
        return [ACTIVATIONS[node.kind]]

    def pool(self, node: g.PoolNode) -> list[Expression]:
        before, after = g.padding(node.kernel)
        module = "nn.MaxPool2d" if node.kind == "max" else "nn.AvgPool2d"
        real = [] if node.kind == "max" or node.kernel == 1 else ["count_include_pad=False"]
        odd = any(side % 2 for side in self.shapes[node.inputs[0]][1:])
        if node.kernel == node.stride == 2:
            return [Call(module, ["2", *(["ceil_mode=True", *real] if odd else [])])]
        sizes = [str(node.kernel), f"stride={node.stride}"]
        if before == after:
            return [Call(module, [*sizes, *([f"padding={before}"] if before else []), *real])]
        if node.kind == "max":
            return [f'nn.ConstantPad2d({_sides(before, after)}, float("-inf"))', Call(module, sizes)]
        self.used.add("AveragePool")
        return [Call("AveragePool", sizes)]

    def scale(self, node: g.ScaleNode) -> list[Expression]:  # noqa: ARG002  # all scales are alike
        self.used.add("Scale")
        return ["Scale()"]

    def lrn(self, node: g.LRNNode) -> list[Expression]:
        alpha = node.alpha * node.size  # torch divides by the size
        return [Call("nn.LocalResponseNorm", [str(node.size), f"{alpha=}", f"beta={node.beta}", f"k={node.bias}"])]

    def global_pool(self, node: g.GlobalPoolNode) -> list[Expression]:  # noqa: ARG002  # all global poolings are alike
        return ["nn.AdaptiveAvgPool2d(1)", "nn.Flatten()"]

    def flatten(self, node: g.FlattenNode) -> list[Expression]:  # noqa: ARG002  # all flattenings are alike
        return ["nn.Flatten()"]

    def dense(self, node: g.DenseNode) -> list[Expression]:
        return [Call("nn.Linear", [str(self.shapes[node.inputs[0]][0]), str(node.shape[0])])]


_MAKE: dict[str, Callable[[Modules, Any], list[Expression]]] = {
    "conv": Modules.conv,
    "norm": Modules.norm,
    "activation": Modules.activation,
    "pool": Modules.pool,
    "scale": Modules.scale,
    "lrn": Modules.lrn,
    "global_pool": Modules.global_pool,
    "flatten": Modules.flatten,
    "dense": Modules.dense,
}


def norm(node: g.NormNode, channels: str) -> Expression:
    """A batch normalisation; what torch takes by itself is left out. ``channels``: a number or a name."""
    settings = []
    if node.epsilon != 1e-5:
        settings.append(f"eps={node.epsilon}")
    if node.momentum != 0.1:
        settings.append(f"momentum={node.momentum}")
    return flat(Call("nn.BatchNorm2d" if node.scale else "CentredNorm", [channels, *settings]))


def _part(node: g.Node) -> str:
    """What a node is in the run of a helper; empty where a helper does not fit."""
    if not isinstance(node, g.ConvNode):
        return node.op
    if node.bias or ((node.kernel - 1) * node.dilation) % 2:
        return ""
    name = node.name.rsplit("/", 1)[-1]
    if name == "depthwise" or (name == "pointwise" and node.kernel == 1):
        return name
    return "conv" if node.groups == 1 else ""


def _unless(node: g.Node, **defaults: object) -> list[str]:
    """Keyword arguments of those attributes that differ from torch's default."""
    return [f"{name}={getattr(node, name)}" for name, value in defaults.items() if getattr(node, name) != value]


def _sides(before: int, after: int) -> str:
    return f"({before}, {after}, {before}, {after})"

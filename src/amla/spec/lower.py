"""``lower``: Architecture -> Graph. Pure, and the only place that knows what an architecture means.

The order of things in a layer, a widener and a join follows the original NAC (arXiv 1803.06744 section 3 and its code).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amla.errors import SpecError
from amla.spec import graph as g
from amla.spec.architecture import (
    STEM,
    Cell,
    CellNode,
    Layer,
    MacroArchitecture,
    MicroArchitecture,
    Placement,
    Step,
    Style,
    Widener,
)
from amla.spec.operations import parse_operation

Shape = g.Shape


def lower(architecture: MacroArchitecture | MicroArchitecture, input_shape: Shape, num_classes: int) -> g.Graph:
    """The graph of an architecture for images of ``input_shape`` = (channels, height, width) and ``num_classes`` classes.

    Errors: ``SpecError`` where a part cannot be had at this size; the message names it.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise SpecError(f"an input is (channels, height, width), each at least 1, not {input_shape}")
    if num_classes < 2:
        raise SpecError(f"a classifier needs at least 2 classes, not {num_classes}")
    net = _Lowering(architecture.style)
    here = net.add(g.InputNode, "input", [], input_shape)
    here = net.steps(STEM, architecture.stem, here, num_classes)
    if isinstance(architecture, MacroArchitecture):
        outputs = net.macro(architecture, here)
    else:
        outputs = net.micro(architecture, here)
    auxiliaries = [
        net.classifier(f"auxiliary/{aux.source}", outputs[aux.source], num_classes) for aux in architecture.auxiliaries
    ]
    last = net.steps("head", architecture.head, list(outputs.values())[-1], num_classes)
    if net.shapes[last] != (num_classes,):
        raise SpecError(f"head: ends in shape {net.shapes[last]}, not in one number a class; end it with a dense step")
    return g.Graph(nodes=tuple(net.nodes), output=last, auxiliaries=tuple(auxiliaries), blocks=tuple(net.blocks))


class _Lowering:
    """The nodes so far. Each method appends what it stands for and returns the name of the node that holds its output."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.nodes: list[g.Node] = []
        self.blocks: list[g.Block] = []
        self.shapes: dict[str, Shape] = {}

    def add(self, type_: type[Any], name: str, inputs: Sequence[str], shape: Shape, **attributes: Any) -> str:
        self.nodes.append(type_(name=name, inputs=tuple(inputs), shape=shape, **attributes))
        self.shapes[name] = shape
        return name

    # ------------------------------------------------------------------------------------------------- single operations
    def same(self, type_: type[Any], name: str, source: str, **attributes: Any) -> str:
        """A node that keeps the shape of its input."""
        return self.add(type_, name, [source], self.shapes[source], **attributes)

    def conv(self, name: str, source: str, channels: int, kernel: int, *, stride: int = 1, **attributes: Any) -> str:
        side = _halved(self.image(source, name), stride)
        return self.add(g.ConvNode, name, [source], (channels, *side), kernel=kernel, stride=stride, **attributes)

    def pool(self, name: str, source: str, kind: str, kernel: int, stride: int) -> str:
        side = _halved(self.image(source, name), stride)
        return self.add(
            g.PoolNode, name, [source], (self.shapes[source][0], *side), kind=kind, kernel=kernel, stride=stride
        )

    def norm(self, name: str, source: str) -> str:
        style = self.style
        attributes = {"scale": style.norm_scale, "epsilon": style.norm_epsilon, "momentum": style.norm_momentum}
        return self.same(g.NormNode, name, source, **attributes) if style.norm else source

    def activation(self, name: str, source: str) -> str:
        return self.same(g.ActivationNode, name, source, kind=self.style.activation)

    def dropout(self, name: str, source: str) -> str:
        return self.same(g.DropoutNode, name, source, rate=self.style.dropout) if self.style.dropout else source

    def concat(self, name: str, sources: Sequence[str]) -> str:
        side = self.shapes[sources[0]][1:]
        return self.add(g.ConcatNode, name, sources, (sum(self.shapes[s][0] for s in sources), *side))

    def image(self, source: str, name: str) -> Shape:
        """The (height, width) of an output that must still be an image."""
        if len(self.shapes[source]) != 3:
            raise SpecError(f"{name}: needs an image, but {source} is a vector")
        return self.shapes[source][1:]

    def dressed_conv(self, name: str, source: str, channels: int, kernel: int, **attributes: Any) -> str:
        """Convolution, norm and activation, in that order or (``act_conv_norm``) with the activation first."""
        if self.style.order == "act_conv_norm":
            source = self.activation(f"{name}/act", source)
        here = self.conv(f"{name}/conv", source, channels, kernel, **attributes)
        here = self.norm(f"{name}/norm", here)
        return here if self.style.order == "act_conv_norm" else self.activation(f"{name}/act", here)

    def separable(
        self, name: str, source: str, channels: int, kernel: int, *, stride: int, dilation: int = 1
    ) -> tuple[str, str]:
        """Depthwise then 1x1 convolution, one norm behind both; a dilated one is never repeated (arXiv 1806.09055 section
        3.1). Returns (before the norm, output)."""
        before = here = source
        for repeat in range(self.style.separable_repeats if dilation == 1 else 1):
            at = name if repeat == 0 else f"{name}/again"
            if self.style.order == "act_conv_norm":
                here = self.activation(f"{at}/act", here)
            into = self.shapes[here][0]
            step = stride if repeat == 0 else 1
            here = self.conv(f"{at}/depthwise", here, into, kernel, stride=step, dilation=dilation, groups=into)
            before = self.conv(f"{at}/pointwise", here, channels, 1)
            here = self.norm(f"{at}/norm", before)
            if self.style.order == "conv_norm_act":
                here = self.activation(f"{at}/act", here)
        return before, here

    def operation(self, name: str, operation: str, source: str, channels: int, stride: int = 1) -> str:
        """A candidate operation: a block of its own, with its norm, activation and dropout."""
        what = parse_operation(operation)
        self.image(source, name)
        into = self.shapes[source][0]
        if what.kind in ("identity", "zero") and stride == 1 and channels == into:
            kind = g.IdentityNode if what.kind == "identity" else g.ZeroNode
            before = here = self.same(kind, f"{name}/{what.kind}", source)
        elif what.kind == "zero":
            side = _halved(self.shapes[source][1:], stride)
            before = here = self.add(g.ZeroNode, f"{name}/zero", [source], (channels, *side))
        elif what.kind in ("maxpool", "avgpool"):
            before = here = self.pool(f"{name}/pool", source, what.kind[:3], what.kernel, stride)
            if self.style.pool_norm:
                here = self.norm(f"{name}/norm", here)
            here = self.fit_width(f"{name}/fit", here, channels)
        elif what.kind == "sep" or (what.kind == "dil" and self.style.order == "act_conv_norm"):
            before, here = self.separable(name, source, channels, what.kernel, stride=stride, dilation=what.dilation)
        else:  # a dense convolution, dilated or not; an identity that must change its shape is a 1x1 convolution
            here = self.dressed_conv(name, source, channels, what.kernel, stride=stride, dilation=what.dilation)
            before = f"{name}/conv"
        self.blocks.append(g.Block(name=name, kind=operation, before_norm=before, output=here))
        return here if what.kind in ("identity", "zero") else self.dropout(f"{name}/dropout", here)

    # -------------------------------------------------------------------------------------------- bringing things together
    def fit_width(self, name: str, source: str, channels: int) -> str:
        """A plain 1x1 convolution where the width differs, else nothing."""
        if self.shapes[source][0] == channels:
            return source
        return self.conv(f"{name}/conv", source, channels, 1, bias=self.style.fit_bias)

    def pooled_to(self, name: str, source: str, side: Shape) -> str:
        """Max-pooled 2x2 until it has (at most) the resolution ``side``, as the original brings skips to a layer."""
        here, times = source, 0
        while self.image(here, name)[0] > side[0] or self.shapes[here][2] > side[1]:
            times += 1
            here = self.pool(f"{name}/pool{times}", here, "max", 2, 2)
        if self.shapes[here][1:] != side:
            raise SpecError(
                f"{name}: {source} has resolution {self.shapes[source][1:]}, which halving does not bring to {side}"
            )
        return here

    def convolved_to(self, name: str, source: str, side: Shape) -> str:
        """Halved by 3x3 convolutions of stride 2 until it has the resolution ``side``, as cells of AMLA 0.x do."""
        here, times = source, 0
        while self.image(here, name)[0] > side[0] or self.shapes[here][2] > side[1]:
            times += 1
            here = self.conv(f"{name}/conv{times}", here, self.shapes[here][0], 3, stride=2, bias=True)
        if self.shapes[here][1:] != side:
            raise SpecError(
                f"{name}: {source} has resolution {self.shapes[source][1:]}, which halving does not bring to {side}"
            )
        return here

    # --------------------------------------------------------------------------------------------------------- stem and head
    def steps(self, prefix: str, steps: Sequence[Step], source: str, num_classes: int) -> str:
        here = source
        for index, step in enumerate(steps, 1):
            here = self.step(f"{prefix}/{step.op}{index}", step, here, num_classes)
        return here

    def step(self, name: str, step: Step, source: str, num_classes: int) -> str:
        match step.op:
            case "conv":
                here = self.conv(f"{name}/conv", source, step.channels, step.kernel, stride=step.stride, bias=step.bias)
                here = self.norm(f"{name}/norm", here) if step.norm else here
                return self.activation(f"{name}/act", here) if step.activation else here
            case "pool":
                return self.pool(name, source, step.kind, step.kernel, step.stride)
            case "lrn":
                self.image(source, name)
                return self.same(
                    g.LRNNode, name, source, size=step.size, alpha=step.alpha, beta=step.beta, bias=step.bias
                )
            case "cutout":
                self.image(source, name)
                return self.same(g.CutoutNode, name, source, size=step.size)
            case "dropout":
                return self.same(g.DropoutNode, name, source, rate=step.rate)
            case "norm":
                self.image(source, name)
                return self.norm(name, source)
            case "activation":
                return self.activation(name, source)
            case "global_pool":
                self.image(source, name)
                return self.add(g.GlobalPoolNode, name, [source], self.shapes[source][:1])
            case "flatten":
                return self.flat(name, source)
            case "dense":
                return self.add(g.DenseNode, name, [self.flat(f"{name}/flat", source)], (step.units or num_classes,))

    def flat(self, name: str, source: str) -> str:
        """A vector out of an image; a vector stays as it is."""
        shape = self.shapes[source]
        if len(shape) == 1:
            return source
        return self.add(g.FlattenNode, name, [source], (shape[0] * shape[1] * shape[2],))

    def classifier(self, name: str, source: str, num_classes: int) -> str:
        self.image(source, name)
        pooled = self.add(g.GlobalPoolNode, f"{name}/pool", [source], self.shapes[source][:1])
        return self.add(g.DenseNode, f"{name}/dense", [pooled], (num_classes,))

    # ------------------------------------------------------------------------------------------------------------------ macro
    def macro(self, architecture: MacroArchitecture, source: str) -> dict[str, str]:
        """Output nodes by the names that skips and auxiliaries use, the last one the body's output."""
        outputs = {STEM: source}
        here = source
        for stage in architecture.stages:
            for layer in stage.layers:
                place = f"{stage.name}/{layer.name}"
                here = outputs[place] = self.layer(place, layer, here, outputs)
            if stage.widener:
                place = f"{stage.name}/widener"
                here = outputs[place] = self.widener(place, stage.widener, here, outputs)
        return outputs

    def layer(self, place: str, layer: Layer, source: str, outputs: dict[str, str]) -> str:
        if layer.skips is not None:
            source = self.join_skips(place, layer.skips, source, outputs)
        branches = [self.operation(f"{place}/{b.name}", b.operation, source, b.channels) for b in layer.branches]
        return self.concat(f"{place}/out", branches)

    def join_skips(self, place: str, skips: Sequence[str], source: str, outputs: dict[str, str]) -> str:
        side = self.image(source, place)
        joined = [source]
        for skip in skips:
            name = f"{place}/skip/{skip}"
            pooled = self.pooled_to(name, outputs[skip], side)
            scaled = self.same(g.ScaleNode, f"{name}/scale", pooled)
            self.blocks.append(g.Block(name=name, kind="skip", before_norm=pooled, output=scaled))
            joined.append(scaled)
        whole = self.concat(f"{place}/join", joined)
        return self.dressed_conv(f"{place}/bottleneck", whole, self.shapes[source][0], 1)

    def widener(self, place: str, widener: Widener, source: str, outputs: dict[str, str]) -> str:
        side = self.image(source, place)
        if widener.kind == "pool":
            others = [self.pooled_to(f"{place}/input/{name}", outputs[name], side) for name in widener.inputs]
            joined = self.concat(f"{place}/join", [source, *others])
            return self.pool(f"{place}/pool", joined, "max", 2, 2)
        pooled = self.pool(f"{place}/pool", source, "max", 2, 2)
        assert widener.channels is not None  # the document guarantees it
        convolved = self.dressed_conv(place, source, widener.channels, 3, stride=2)
        return self.concat(f"{place}/out", [pooled, convolved])

    # ------------------------------------------------------------------------------------------------------------------ micro
    def micro(self, architecture: MicroArchitecture, source: str) -> dict[str, str]:
        outputs = {STEM: source}
        for placement in architecture.network:
            before = list(outputs.values())
            outputs[placement.name] = self.cell(placement, architecture.cells[placement.cell], before)
        return outputs

    def cell(self, placement: Placement, cell: Cell, before: Sequence[str]) -> str:
        here = {name: before[max(offset - 1, -len(before))] for name, offset in cell.inputs.items()}
        last = cell.nodes[-1].name
        for node in cell.nodes:
            here[node.name] = self.cell_node(
                f"{placement.name}/{node.name}", node, [here[n] for n in node.inputs], placement
            )
        return self.fit_width(f"{placement.name}/fit", here[last], placement.width) if cell.fit else here[last]

    def cell_node(self, name: str, node: CellNode, sources: list[str], placement: Placement) -> str:
        if node.operation in ("add", "concat"):
            sides = [self.image(s, name) for s in sources]
            smallest = (min(side[0] for side in sides), min(side[1] for side in sides))
            sources = [self.convolved_to(f"{name}/reduce{i}", s, smallest) for i, s in enumerate(sources, 1)]
            if node.operation == "concat":
                return self.concat(name, sources)
            widest = max(self.shapes[s][0] for s in sources)
            sources = [self.fit_width(f"{name}/fit{i}", s, widest) for i, s in enumerate(sources, 1)]
            return self.add(g.AddNode, name, sources, self.shapes[sources[0]])
        channels = placement.width if node.channels == "width" else node.channels or self.shapes[sources[0]][0]
        return self.operation(name, node.operation, sources[0], channels, node.stride)


def _halved(side: Shape, stride: int) -> Shape:
    return tuple(-(-pixels // stride) for pixels in side)

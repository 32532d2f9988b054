"""Graph -> a plain ``nn.Module``.

Every weighted node is a submodule registered under the node's own name, so that ``state_dict()`` has exactly the names and
shapes of ``spec.graph.weights``. The forward pass walks the nodes in order and lets go of an output after its last use.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amla.spec.graph import (
    ActivationNode,
    ConvNode,
    CutoutNode,
    Graph,
    LRNNode,
    Node,
    NormNode,
    PoolNode,
    Shape,
    ZeroNode,
    padding,
)

#: A listener at a node: called with the node's name and its output, answers what flows on.
Tap = Callable[[str, Tensor], Tensor]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Conv(nn.Module):
    """A convolution padded as ``spec.graph.padding`` says. ``into`` is the shape of its input.

    In bfloat16 on a CPU, torch 2.13 leaves uninitialised memory in the weight gradient where a kernel reaches past a
    small input. Taps that can never meet the input (all but the middle 2 * side - 1 of an axis) contribute nothing, so
    under autocast they are cut away before the convolution; their gradient is zero, as it should be. The parameter keeps
    its whole shape.
    """

    def __init__(self, node: ConvNode, into: Shape) -> None:
        super().__init__()
        self.stride, self.dilation, self.groups = node.stride, node.dilation, node.groups
        self.weight = nn.Parameter(torch.empty(node.shape[0], into[0] // node.groups, node.kernel, node.kernel))
        self.bias = nn.Parameter(torch.empty(node.shape[0])) if node.bias else None
        self.pads = padding(node.kernel, node.dilation)
        self.taps = tuple(useful_taps(node.kernel, node.dilation, side) for side in into[1:])
        self.crops = self.taps != ((0, node.kernel),) * 2

    def reset(self) -> None:
        """He initialisation (arXiv 1502.01852 equation 10), zero bias."""
        nn.init.kaiming_normal_(self.weight, mode="fan_in", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        (top, bottom), (left, right) = self.pads, self.pads
        if self.crops and torch.is_autocast_enabled(x.device.type):
            rows, columns = self.taps
            top, bottom = self._pads_of(rows)
            left, right = self._pads_of(columns)
            weight = weight[:, :, slice(*rows), slice(*columns)]
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        return F.conv2d(x, weight, self.bias, self.stride, (top, left), self.dilation, self.groups)

    def _pads_of(self, taps: tuple[int, int]) -> tuple[int, int]:
        """What is left of the padding of an axis where only these taps are used."""
        before, after = self.pads
        return before - taps[0] * self.dilation, after - (self.weight.shape[2] - taps[1]) * self.dilation


def useful_taps(kernel: int, dilation: int, side: int) -> tuple[int, int]:
    """The taps (first, one past the last) of an axis that meet a real pixel anywhere on a ``side`` of so many; all where
    none does."""
    before, _ = padding(kernel, dilation)
    useful = [tap for tap in range(kernel) if abs(tap * dilation - before) < side]
    return (useful[0], useful[-1] + 1) if useful else (0, kernel)


class Norm(nn.Module):
    """Batch normalisation, centred, scaled where the node says so. ``momentum`` is the weight of the new batch."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, node: NormNode) -> None:
        super().__init__()
        channels = node.shape[0]
        self.epsilon, self.momentum = node.epsilon, node.momentum
        self.weight = nn.Parameter(torch.ones(channels)) if node.scale else None
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def reset(self) -> None:
        """Scale one, bias zero."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:  # one value a channel has no variance
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.epsilon
            )
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.epsilon
        )


class Scale(nn.Module):
    """The input times one learned number, which begins near ``init`` (N(init, 0.01), as the original)."""

    def __init__(self, init: float) -> None:
        super().__init__()
        self.init = init
        self.weight = nn.Parameter(torch.full((1,), init))

    def reset(self) -> None:
        nn.init.normal_(self.weight, self.init, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.to(x.dtype)


class Dense(nn.Module):
    """A fully connected layer. Making one draws nothing at random, as torch's own does."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, into))
        self.bias = nn.Parameter(torch.empty(out))

    def reset(self) -> None:
        """Both uniform within +-1 / sqrt(inputs), as torch's own."""
        limit = 1.0 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -limit, limit)
        nn.init.uniform_(self.bias, -limit, limit)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class GraphModule(nn.Module):
    """A network. In training it answers (logits, logits of the auxiliary classifiers), else (logits, nothing).

    ``taps`` listen at nodes; ``gates`` multiply the outputs of nodes by numbers.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.taps: dict[str, Tap] = {}
        self.gates: dict[str, Tensor] = {}
        shapes = {node.name: node.shape for node in graph.nodes}
        for node in graph.nodes:
            module = _module(node, shapes)
            if module is not None:
                self.add_module(node.name, module)
        self.close(())

    def close(self, off: Collection[str]) -> None:
        """From now on the outputs of these nodes are zeros, and what only they need is not computed."""
        self.off = frozenset(off)
        self._steps = {training: _steps(self.graph, training, self.off) for training in (True, False)}

    def reset(self, seed: int) -> None:
        """Fresh weights, the same for the same seed. The global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.children():
                module.reset()  # type: ignore[operator]  # every child has one

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        values: dict[str, Tensor] = {}
        modules = self._modules
        for node, gone in self._steps[self.training]:
            inputs = [values[name] for name in node.inputs]
            module = modules.get(node.name) if node.op != "zero" else None
            out = module(inputs[0]) if module is not None else _compute(node, inputs or [x], self.training)
            gate = self.gates.get(node.name)
            if gate is not None:
                out = out * gate.to(out.dtype)
            tap = self.taps.get(node.name)
            values[node.name] = tap(node.name, out) if tap else out
            for name in gone:
                del values[name]
        auxiliaries = [values[name] for name in self.graph.auxiliaries] if self.training else []
        return values[self.graph.output], auxiliaries


def build(graph: Graph, seed: int | None = None) -> GraphModule:
    """The module of a graph; with a seed, freshly initialised."""
    module = GraphModule(graph)
    module.reset(0 if seed is None else seed)
    return module


def by_batch(module: GraphModule) -> GraphModule:
    """The module set to evaluation, but with norms that go by the statistics of the batch, as in training: what they have
    seen so far may be nothing, or other networks."""
    module.eval()
    for child in module.children():
        child.train(isinstance(child, Norm))
    return module


def _steps(graph: Graph, training: bool, off: Collection[str]) -> list[tuple[Node, list[str]]]:
    """The nodes to compute, each with the outputs that nobody needs after it; zeros in the place of those that are off."""
    ends = [graph.output, *(graph.auxiliaries if training else ())]
    needed = set(ends)
    nodes: list[Node] = []
    for whole in reversed(graph.nodes):
        if whole.name in needed:
            nodes.insert(0, _without(whole, off, graph.nodes[0].name) if off else whole)
            needed.update(nodes[0].inputs)
    last = {name: index for index, node in enumerate(nodes) for name in node.inputs}
    gone: list[list[str]] = [[] for _ in nodes]
    for name, index in last.items():
        if name not in ends:
            gone[index].append(name)
    return list(zip(nodes, gone, strict=True))


def _without(node: Node, off: Collection[str], source: str) -> Node:
    """The node, zeros where it is off; a sum without the zeros. Zeros take the size of the batch from ``source``."""
    if node.name in off:
        return ZeroNode(name=node.name, inputs=(source,), shape=node.shape)
    if node.op == "add":
        on = tuple(name for name in node.inputs if name not in off)
        return node.model_copy(update={"inputs": on or node.inputs[:1]})
    return node


def _module(node: Node, shapes: dict[str, tuple[int, ...]]) -> nn.Module | None:
    match node.op:
        case "conv":
            return Conv(node, shapes[node.inputs[0]])
        case "norm":
            return Norm(node)
        case "scale":
            return Scale(node.init)
        case "dense":
            return Dense(shapes[node.inputs[0]][0], node.shape[0])
        case _:
            return None


def _compute(node: Node, inputs: list[Tensor], training: bool) -> Tensor:  # one return an operation
    x = inputs[0]
    match node.op:
        case "input":
            return x
        case "identity":
            return x.view_as(x)  # a tensor of its own, so that an instrument sees the gradient of this way only
        case "activation":
            return activate(node, x)
        case "pool":
            return pool(node, x)
        case "zero":
            return x.new_zeros((x.shape[0], *node.shape))
        case "add":
            return functools.reduce(torch.add, inputs)
        case "concat":
            return torch.cat(inputs, 1) if len(inputs) > 1 else x
        case "lrn":
            return local_response_norm(node, x)
        case "dropout":
            return F.dropout(x, node.rate, training)
        case "cutout":
            return cutout(node, x) if training else x
        case "global_pool":
            return x.mean((2, 3))
        case "flatten":
            return x.flatten(1)
        case _:
            raise AssertionError(f"{node.op} has a module of its own")


def activate(node: ActivationNode, x: Tensor) -> Tensor:
    return _ACTIVATIONS[node.kind](x)


def pool(node: PoolNode, x: Tensor) -> Tensor:
    """Max pooling pads with -infinity, average pooling counts real pixels only."""
    before, after = padding(node.kernel)
    exact = before == 0 and after == 1 and node.stride == 2 and all(side % 2 == 0 for side in x.shape[2:])
    if before == after or exact:
        edge = 0 if exact else before
        if node.kind == "max":
            return F.max_pool2d(x, node.kernel, node.stride, edge)
        return F.avg_pool2d(x, node.kernel, node.stride, edge, count_include_pad=False)
    pads = (before, after, before, after)
    if node.kind == "max":
        return F.max_pool2d(F.pad(x, pads, value=float("-inf")), node.kernel, node.stride)
    ones = F.pad(torch.ones_like(x[:1, :1]), pads)
    share = F.avg_pool2d(ones, node.kernel, node.stride)
    return F.avg_pool2d(F.pad(x, pads), node.kernel, node.stride) / share


def local_response_norm(node: LRNNode, x: Tensor) -> Tensor:
    """torch divides alpha by the size of the window; ours is not divided. Computed in float32: it is a power of a sum."""
    return F.local_response_norm(x.float(), node.size, node.alpha * node.size, node.beta, node.bias).to(x.dtype)


def cutout(node: CutoutNode, x: Tensor) -> Tensor:
    """A blank square at a random place in every image; it may reach over the edge (arXiv 1708.04552)."""
    return blank_squares(x, node.size)


def blank_squares(x: Tensor, size: int, generator: torch.Generator | None = None) -> Tensor:
    """Images (n, c, h, w) with a square of ``size`` pixels a side set to zero, centred anywhere."""
    masks = []
    for side in x.shape[2:]:
        centre = torch.randint(side, (x.shape[0], 1), generator=generator)
        place = torch.arange(side)
        masks.append(((place - centre + size // 2) >= 0) & ((place - centre + size // 2) < size))
    square = masks[0][:, None, :, None] & masks[1][:, None, None, :]
    return x.masked_fill(square.to(x.device), 0.0)


def capture(names: Iterable[str], into: dict[str, Tensor]) -> dict[str, Tap]:
    """Taps that only keep what passes, by node name."""

    def keep(name: str, value: Tensor) -> Tensor:
        into[name] = value
        return value

    return dict.fromkeys(names, keep)

"""Graph -> a plain ``nn.Module``.

Every weighted node is a submodule registered under the node's own name, so that ``state_dict()`` has exactly the names and
shapes of ``spec.graph.weights``. The forward pass walks the nodes in order and lets go of an output after its last use.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

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
    padding,
)
from amla.trainers.cells import useful_taps
from amla.trainers.switched import WHOLE
from amla.trainers.torch.steps import Joint, Step, Tap, steps

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
        return self.by(x, self.weight)

    def by(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution with another kernel than its own, of the same shape."""
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
        return normalise(self, x, self.running_mean, self.running_var, self.weight, self.bias)


def normalise(how: Norm, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor) -> Tensor:
    """Batch normalisation as ``how`` does it, by these numbers; ``mean`` and ``variance`` are brought up to date in training."""
    training = how.training and x.numel() > x.shape[1]  # one value a channel has no variance
    return F.batch_norm(x, mean, variance, weight, bias, training, how.momentum if training else 0.0, how.epsilon)


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

    ``taps`` listen at nodes; those ``aside`` do so in a pass of their own, one node after the other, that has no effect but
    theirs; ``gates`` multiply the outputs of nodes by numbers. ``join`` has nodes computed together; they
    are still computed one by one where somebody listens in between, or where gates are set or nodes are off.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.taps: dict[str, Tap] = {}
        self.aside: dict[str, Tap] = {}
        self.gates: dict[str, Tensor] = {}
        shapes = {node.name: node.shape for node in graph.nodes}
        for node in graph.nodes:
            module = _module(node, shapes)
            if module is not None:
                self.add_module(node.name, module)
        self.joints: tuple[Joint, ...] = ()
        self.close(())

    def join(self, joints: Iterable[Joint]) -> None:
        """From now on these nodes are computed together, and equal poolings once."""
        self.joints = tuple(joints)
        self.close(self.off)

    def close(self, off: Collection[str]) -> None:
        """From now on the outputs of these nodes are zeros, and what only they need is not computed."""
        self.off = frozenset(off)
        self._steps = {training: steps(self.graph, training, self.off, self.joints) for training in (True, False)}

    def reset(self, seed: int) -> None:
        """Fresh weights, the same for the same seed. The global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.children():
                module.reset()  # type: ignore[operator]  # every child has one

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        if self.aside:
            self._pass_aside(x)
        values: dict[str, Tensor] = {}
        for step in self._steps[self.training]:
            self._take(step, values, x)
        auxiliaries = [values[name] for name in self.graph.auxiliaries] if self.training else []
        return values[self.graph.output], auxiliaries

    def logits_without(self, x: Tensor, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """For each of these nodes, the logits with zeros for its output, and those of the ``WHOLE``; none for a node that
        the logits do not depend on.

        What comes before a node is computed once, for all: what is left of the network is passed through from there.
        """
        left = set(names)
        # done together is only what can still be told apart afterwards
        joints = [
            joint
            for joint in self.joints
            if left.intersection(node.name for node in joint.nodes) <= {*joint.channels, joint.out}
        ]
        walk = steps(self.graph, self.training, self.off, joints)
        values: dict[str, Tensor] = {}
        for place, step in enumerate(walk):
            self._take(step, values, x)
            for name in left.intersection(node.name for node in step.nodes):
                rest = values | {step.out: step.without(name, values[step.out])}
                for later in walk[place + 1 :]:
                    self._take(later, rest, x)
                yield name, rest[self.graph.output]
        yield WHOLE, values[self.graph.output]

    def _take(self, step: Step, values: dict[str, Tensor], x: Tensor) -> None:
        """Compute what is next, and let go of what nobody needs after it."""
        joint = step.joint
        if step.twin and not self.gates:
            values[step.out] = self._heard(step.out, values[step.twin])
        elif joint and not self.gates and joint.inner.isdisjoint(self.taps):
            out = joint(self._modules, [values[name] for name in joint.sources], self.taps, self.training)
            values[step.out] = self._heard(step.out, out)
        else:
            for node in step.nodes:
                values[node.name] = self._value(node, values, x)
        for name in step.gone:
            values.pop(name, None)

    @torch.no_grad()
    def _pass_aside(self, x: Tensor) -> None:
        """The forward pass, one node after the other, for the taps ``aside``; then everything is as it was."""
        taps, before = self.taps, [buffer.clone() for buffer in self.buffers()]
        self.taps = self.aside
        values: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            for step in self._steps[self.training]:
                for node in step.nodes:
                    values[node.name] = self._value(node, values, x)
        for buffer, value in zip(self.buffers(), before, strict=True):
            buffer.copy_(value)
        self.taps = taps

    def _value(self, node: Node, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
        inputs = [values[name] for name in node.inputs]
        module = self._modules.get(node.name) if node.op != "zero" else None
        out = module(inputs[0]) if module is not None else _compute(node, inputs or [x], self.training)
        gate = self.gates.get(node.name)
        return self._heard(node.name, out if gate is None else out * gate.to(out.dtype))

    def _heard(self, name: str, out: Tensor) -> Tensor:
        tap = self.taps.get(name)
        return tap(name, out) if tap else out


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
    return blank_squares(x, node.size, torch.stack([torch.randint(side, (x.shape[0],)) for side in x.shape[2:]]))


def blank_squares(x: Tensor, size: int, centres: Tensor) -> Tensor:
    """Images (n, c, h, w) with a square of ``size`` pixels a side set to zero, around ``centres`` (2, n): row and column."""
    masks = []
    for side, centre in zip(x.shape[2:], centres, strict=True):
        place = torch.arange(side) - centre[:, None] + size // 2
        masks.append((place >= 0) & (place < size))
    square = masks[0][:, None, :, None] & masks[1][:, None, None, :]
    return x.masked_fill(square.to(x.device), 0.0)


def capture(names: Iterable[str], into: dict[str, Tensor]) -> dict[str, Tap]:
    """Taps that only keep what passes, by node name."""

    def keep(name: str, value: Tensor) -> Tensor:
        into[name] = value
        return value

    return dict.fromkeys(names, keep)

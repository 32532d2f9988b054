"""Cells: the branches of a layer computed together, with the numbers that they give one by one.

What is exact, and so is done:

- one batch norm over the concatenation is the norms of the branches: a norm treats every channel by itself;
- dense convolutions of one input are one convolution, their kernels stacked over output channels, the smaller ones with
  zeros around them;
- a depthwise convolution followed by a pointwise one, with nothing in between, is a dense one: its kernel is the product
  of the two.

The last two do more multiplications to have fewer and larger convolutions. Whether that pays is the machine's to say (see
``kernels``); a ``Rule`` tells how far to go. Weights stay where they are, in the layout of ``spec.graph.weights``: the kernel
of a cell is put together anew at every step, and its gradient reaches each weight through that.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from amla.spec.graph import ConvNode, Graph, Node, Shape, padding
from amla.trainers.cells import Branch, Cell, Window, readers_in
from amla.trainers.torch.module import Conv, Norm, Scale, activate, normalise
from amla.trainers.torch.steps import Joint, Modules, Tap


class Rule(NamedTuple):
    """Which convolutions of a cell become one.

    Each of ``levels`` is a convolution with kernels of that size, for all dense convolutions that are no larger, but larger
    than the level before, and for the separable ones among these that are no larger than ``separable``. What is larger is
    left as it is; with ``matrices``, the separable ones of it are products of matrices.
    """

    levels: tuple[int, ...] = ()
    separable: int = 0
    matrices: bool = False

    def level(self, branch: Branch) -> int | None:
        """Where a branch goes; None where it is left as it is."""
        kernel = branch.convs[0].kernel
        if not branch.plain or (len(branch.convs) > 1 and kernel > self.separable):
            return None
        return next((level for level in self.levels if kernel <= level), None)


class Merged:
    """Dense and separable convolutions of one input as one dense convolution. Taps that meet no pixel are left out."""

    def __init__(self, branches: Sequence[Branch], into: Shape) -> None:
        self.branches, self.window = branches, Window(branches, into)

    def __call__(self, modules: Modules, x: Tensor) -> Tensor:
        """What the convolutions of the branches put out, next to each other."""
        (top, bottom), (left, right) = self.window.rows, self.window.columns
        kernels = []
        for branch, (rows, columns) in zip(self.branches, self.window.margins(), strict=True):
            kernels.append(F.pad(_kernel([_conv(modules, node).weight for node in branch.convs]), (*columns, *rows)))
        kernel = torch.cat(kernels).contiguous(memory_format=torch.channels_last)
        if (-top, -left) == (bottom, right):
            return F.conv2d(x, kernel, padding=(bottom, right))
        return F.conv2d(F.pad(x, (-left, right, -top, bottom)), kernel)


class Multiplied:
    """Separable convolutions of one small input as products of matrices.

    On images of few pixels a depthwise convolution is a square matrix over the pixels for each channel, and products of
    matrices are fast where torch's depthwise convolutions, above all the gradients of their weights, are not.
    """

    def __init__(self, branches: Sequence[Branch], into: Shape) -> None:
        self.branches, self.into = branches, into

    def __call__(self, modules: Modules, x: Tensor) -> Tensor:
        """What the pointwise convolutions of the branches put out, next to each other."""
        channels, height, width = self.into
        pixels = x.permute(1, 0, 2, 3).reshape(channels, len(x), height * width)
        outs = []
        for branch in self.branches:
            depthwise, pointwise = (_conv(modules, node).weight for node in branch.convs)
            between = torch.bmm(pixels, _matrices(depthwise[:, 0], height, width))
            outs.append(pointwise[:, :, 0, 0] @ between.view(channels, -1))
        y = torch.cat(outs).view(-1, len(x), height, width).permute(1, 0, 2, 3)
        return y.contiguous(memory_format=torch.channels_last)


Part = Merged | Multiplied


class Fused(Joint):
    """A cell of a network, computed as one by a rule."""

    def __init__(self, cell: Cell, rule: Rule) -> None:
        branches = self.branches = cell.branches
        self.sources, self.nodes, self.out = (cell.source,), cell.nodes, cell.out.name
        self.inner = frozenset(node.name for b in branches for node in (*b.convs[:-1], b.norm))
        ends = itertools.accumulate((branch.norm.shape[0] for branch in branches), initial=0)
        self.channels = {
            branch.nodes[-1].name: slice(*pair) for branch, pair in zip(branches, itertools.pairwise(ends), strict=True)
        }
        groups = [[branch for branch in branches if rule.level(branch) == level] for level in rule.levels]
        # a dense convolution by itself is one already
        self.parts: list[Part] = [Merged(g, cell.into) for g in groups if len(g) > 1 or (g and len(g[0].convs) > 1)]
        left = [branch for branch in branches if branch.separable and rule.level(branch) is None]
        if rule.matrices and left:
            self.parts.append(Multiplied(left, cell.into))

    def __call__(self, modules: Modules, inputs: Sequence[Tensor], taps: Mapping[str, Tap], training: bool) -> Tensor:
        branches = self.branches
        y = self._tapped([branch.convs[-1] for branch in branches], self._convolved(modules, inputs[0]), taps)
        y = self._normed(modules, y)
        # nobody else sees what comes out of the norm, nor does its gradient need that
        y = y.relu_() if branches[0].activation.kind == "relu" else activate(branches[0].activation, y)
        y = self._tapped([branch.activation for branch in branches], y, taps)
        dropouts = [branch.dropout for branch in branches if branch.dropout]
        if dropouts:
            y = self._tapped(dropouts, F.dropout(y, dropouts[0].rate, training), taps)
        return y

    def _convolved(self, modules: Modules, x: Tensor) -> Tensor:
        """What comes before the norm, of all branches, in their order."""
        if len(self.parts) == 1 and len(self.parts[0].branches) == len(self.branches):
            return self.parts[0](modules, x)
        parts: dict[str, Tensor] = {}
        for part in self.parts:
            names, widths = zip(*((branch.norm.name, branch.norm.shape[0]) for branch in part.branches), strict=True)
            parts.update(zip(names, part(modules, x).split(widths, 1), strict=True))
        for branch in self.branches:
            if branch.norm.name not in parts:
                here = x
                for node in branch.convs:
                    here = _conv(modules, node)(here)
                parts[branch.norm.name] = here
        return torch.cat([parts[branch.norm.name] for branch in self.branches], 1)

    def _normed(self, modules: Modules, y: Tensor) -> Tensor:
        """One norm; what it remembers goes back to the norm of each branch."""
        norms = [_norm(modules, branch) for branch in self.branches]
        if len(norms) == 1:
            return norms[0](y)  # type: ignore[no-any-return]
        means, variances = [norm.running_mean for norm in norms], [norm.running_var for norm in norms]
        biases: list[Tensor] = [norm.bias for norm in norms]
        mean, variance = torch.cat(means), torch.cat(variances)
        scales: list[Tensor] = [norm.weight for norm in norms if norm.weight is not None]
        y = normalise(norms[0], y, mean, variance, torch.cat(scales) if scales else None, torch.cat(biases))
        if norms[0].training:
            widths = [len(one) for one in means]
            torch._foreach_copy_([*means, *variances], [*mean.split(widths), *variance.split(widths)])
        return y

    @staticmethod
    def _tapped(nodes: Sequence[Node], y: Tensor, taps: Mapping[str, Tap]) -> Tensor:
        """The output with every node's part of it shown to who listens there."""
        if not any(node.name in taps for node in nodes):
            return y
        parts = y.split([node.shape[0] for node in nodes], 1)
        heard = [taps[n.name](n.name, part) if n.name in taps else part for n, part in zip(nodes, parts, strict=True)]
        return torch.cat(heard, 1)


class Scaled(Joint):
    """Skips scaled, concatenated and convolved: the convolution of the concatenation as it is, by a kernel that is scaled.

    Both are linear, and the kernel is small. Taps hear the scaled skips, but no gradients of them.
    """

    def __init__(self, graph: Mapping[str, Node], conv: ConvNode) -> None:
        joined = graph[conv.inputs[0]]
        self.parts = [graph[name] for name in joined.inputs]
        self.scales = tuple(part for part in self.parts if part.op == "scale")
        self.sources = tuple(part.inputs[0] if part.op == "scale" else part.name for part in self.parts)
        self.nodes = (*self.scales, joined, conv)
        self.out = conv.name
        self.inner = frozenset([joined.name])
        self.channels: dict[str, slice] = {}

    def __call__(self, modules: Modules, inputs: Sequence[Tensor], taps: Mapping[str, Tap], training: bool) -> Tensor:
        del training  # it changes nothing
        conv = modules[self.out]
        assert isinstance(conv, Conv)
        factors = []
        for part, value in zip(self.parts, inputs, strict=True):
            scale = modules.get(part.name) if part.op == "scale" else None
            if isinstance(scale, Scale) and part.name in taps:
                with torch.no_grad():
                    taps[part.name](part.name, scale(value))
            factors.append(
                scale.weight.expand(value.shape[1])
                if isinstance(scale, Scale)
                else conv.weight.new_ones(value.shape[1])
            )
        return conv.by(torch.cat(list(inputs), 1), conv.weight * torch.cat(factors)[:, None, None])


def scaled_of(graph: Graph) -> Iterator[Scaled]:
    """The convolutions of a network that read a concatenation with scaled parts, where nobody else reads these."""
    nodes, readers = graph.by_name(), readers_in(graph)
    for node in graph.nodes:
        if node.op == "conv" and node.groups == 1 and nodes[node.inputs[0]].op == "concat":
            joined = nodes[node.inputs[0]]
            scales = [name for name in joined.inputs if nodes[name].op == "scale"]
            if scales and all(readers[name] == 1 for name in (joined.name, *scales)):
                yield Scaled(nodes, node)


def _matrices(kernels: Tensor, height: int, width: int) -> Tensor:
    """Kernels (channels, k, k) as matrices (channels, pixels in, pixels out) for images of this size, padded as usual.

    From pixel p to pixel q goes the tap q - p: of a kernel that is brought to all taps there can be, a window each.
    """
    before, after = padding(kernels.shape[1])
    taps = F.pad(kernels, (width - 1 - before, width - 1 - after, height - 1 - before, height - 1 - after))
    windows = taps.unfold(1, height, 1).unfold(2, width, 1).flip(1, 2)
    return windows.permute(0, 3, 4, 1, 2).reshape(-1, height * width, height * width)


def _kernel(weights: Sequence[Tensor]) -> Tensor:
    """The dense kernel (out, in, h, w) of a convolution, or of a depthwise (in, 1, h, w) and a pointwise one behind it."""
    if len(weights) == 1:
        return weights[0]
    depthwise, pointwise = weights
    return pointwise * depthwise.transpose(0, 1)


def _conv(modules: Modules, node: ConvNode) -> Conv:
    found = modules[node.name]
    assert isinstance(found, Conv)
    return found


def _norm(modules: Modules, branch: Branch) -> Norm:
    found = modules[branch.norm.name]
    assert isinstance(found, Norm)
    return found

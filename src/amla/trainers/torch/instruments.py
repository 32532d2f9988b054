"""Instruments in torch: taps at the nodes of a block, on sums that stay on the device.

What they measure is said in ``amla.trainers.instruments``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from amla.spec.graph import Block, Graph
from amla.spec.trial import INSTRUMENTS, OWN_PASSES, Statistics
from amla.trainers.instruments import BEFORE_NORM, EVERY, read_sums
from amla.trainers.torch.module import GraphModule
from amla.trainers.torch.steps import Tap

#: And timed: a clock at every node costs more, and needs fewer looks. The first step of all is slow, so another follows.
TIMED = 8 * EVERY


class Instruments:
    """The instruments of one training. ``listen`` before a step, ``read`` at any time."""

    def __init__(self, graph: Graph, names: Iterable[str], device: torch.device) -> None:
        self.names = sorted(set(names) - OWN_PASSES)
        self.device = device
        self.branches = [block for block in graph.blocks if block.kind != "skip"]
        self.skips = [block for block in graph.blocks if block.kind == "skip"]
        self.of_node = {node.name: _block_of(node.name, self.branches) for node in graph.nodes}
        self.sums: dict[str, Tensor] = {}
        self.clock = 0.0
        self.times: dict[str, float] = {}  # seconds in each block, in the step that is timed now

    def listen(self, module: GraphModule, step: int) -> None:
        """Hang on to the module for this step, or let it go."""
        self._keep_times()
        module.taps, module.aside = {}, {}
        if not self.names or step % EVERY:
            return
        taps: dict[str, list[Tap]] = {}
        for name in self.names:
            for node, tap in self._taps(name):
                taps.setdefault(node, []).append(tap)
        module.taps = {node: _chained(listeners) for node, listeners in taps.items()}
        if "block_time" in self.names and step % TIMED in (0, EVERY):  # apart, as blocks are computed together else
            module.aside = dict.fromkeys(self.of_node, _chained([self._stop, self._start]))
        self.clock = time.perf_counter()

    def read(self, module: GraphModule) -> Statistics:
        """The statistics of every block so far, by the names in ``spec.trial.INSTRUMENTS``."""
        self._keep_times()
        sums = {key: value.cpu().numpy() for key, value in self.sums.items()}
        return read_sums(
            module.graph, self.names, sums, lambda node: float(module.get_parameter(f"{node}.weight").detach())
        )

    def state(self) -> dict[str, Tensor]:
        """All sums, for a checkpoint."""
        self._keep_times()
        return dict(self.sums)

    def load(self, sums: Mapping[str, Tensor]) -> None:
        """Go on from the sums of a checkpoint."""
        self.sums = {name: value.to(self.device) for name, value in sums.items()}

    # ------------------------------------------------------------------------------------------------------------- listening
    def _taps(self, name: str) -> list[tuple[str, Tap]]:
        if name == "block_time":
            return []
        if name == "skip":
            return [(block.output, self._norms(block)) for block in self.skips]
        base = name.removesuffix(BEFORE_NORM)
        listeners = {"feature_map": self._moments, "covariance_entropy": self._covariance, "taylor": self._taylor}
        before = name.endswith(BEFORE_NORM)
        return [(b.before_norm if before else b.output, listeners[base](f"{b.name}:{name}")) for b in self.branches]

    def _add(self, key: str, value: Tensor) -> None:
        value = value.detach().to(torch.float64)
        if key in self.sums:
            self.sums[key] += value
        else:
            self.sums[key] = value.clone()

    def _count(self, key: str, count: int) -> None:
        self._add(f"{key}:count", torch.tensor(float(count), device=self.device))

    def _moments(self, key: str) -> Tap:
        @torch.no_grad()
        def tap(_: str, x: Tensor) -> Tensor:
            values = _by_position(x).reshape(x.shape[0], -1)
            self._count(key, x.shape[0])
            self._add(f"{key}:sum", _summed(values))
            self._add(f"{key}:square", _summed(values.square()))
            return x

        return tap

    def _covariance(self, key: str) -> Tap:
        @torch.no_grad()
        def tap(_: str, x: Tensor) -> Tensor:
            values = _by_position(x).reshape(-1, x.shape[1])
            self._count(key, values.shape[0])
            self._add(f"{key}:sum", values.sum(0))
            self._add(f"{key}:product", values.T @ values)
            return x

        return tap

    def _taylor(self, key: str) -> Tap:
        def tap(_: str, x: Tensor) -> Tensor:
            if not x.requires_grad:  # zeros: nothing depends on them
                self._count(key, x.shape[0])
                self._add(f"{key}:sum", torch.zeros((), device=self.device))
                return x

            def arrived(gradient: Tensor) -> None:
                # the loss is a mean over the batch, so a sample's own gradient is the batch's size times this one
                change = (x.detach().float() * gradient.float()).mean((2, 3)) * x.shape[0]
                self._count(key, x.shape[0])
                self._add(f"{key}:sum", change.abs().mean(1).sum())

            x.register_hook(arrived)
            return x

        return tap

    def _norms(self, block: Block) -> Tap:
        key = f"{block.name}:skip"

        @torch.no_grad()
        def tap(_: str, x: Tensor) -> Tensor:
            self._count(key, x.shape[0])
            self._add(f"{key}:norm", x.detach().float().flatten(1).norm(dim=1).sum())
            return x

        return tap

    def _stop(self, node: str, x: Tensor) -> Tensor:
        block = self.of_node[node]
        if block is not None:
            self.times[block] = self.times.get(block, 0.0) + self._now(x) - self.clock
        return x

    def _start(self, _: str, x: Tensor) -> Tensor:
        self.clock = self._now(x)
        return x

    def _now(self, x: Tensor) -> float:
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return time.perf_counter()

    def _keep_times(self) -> None:
        for block, seconds in self.times.items():
            key = f"{block}:block_time"
            now = torch.tensor(seconds, dtype=torch.float64, device=self.device)
            self.sums[f"{key}:least"] = torch.minimum(self.sums.get(f"{key}:least", now), now)
            self.sums[f"{key}:count"] = torch.ones_like(now)
        self.times = {}


def provided() -> frozenset[str]:
    """The instruments that this trainer has: all of them."""
    return frozenset(INSTRUMENTS)


def _by_position(x: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, h, w, c) without a copy, as long as it is laid out channels last."""
    return x.detach().float().permute(0, 2, 3, 1)


def _summed(rows: Tensor) -> Tensor:
    """The sum of all rows, by a product of matrices: several times as fast as ``sum`` on a CPU."""
    return (rows.new_ones(1, rows.shape[0]) @ rows)[0]


def _chained(taps: list[Tap]) -> Tap:
    if len(taps) == 1:
        return taps[0]

    def tap(name: str, x: Tensor) -> Tensor:
        for listener in taps:
            x = listener(name, x)
        return x

    return tap


def _block_of(node: str, blocks: list[Block]) -> str | None:
    return next((block.name for block in blocks if node.startswith(f"{block.name}/")), None)

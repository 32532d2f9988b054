"""What the instruments cost, as a share of a training step. At most 5 %, all of them together.

    python benchmarks/instruments.py [--side 32] [--width 32] [--batch 64] [--rounds 12] [--threads 1]

A step that is listened to and one that is not are timed in turn, so that whatever else the machine does falls on both. The
cost is the median of their differences over the median of the plain step, times the share of steps that are listened to.
``switched_off`` listens to no step; how many steps a look takes is said in the last line, and how many it would take if each
branch were looked at by a whole pass.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
import torch.nn.functional as F

from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.training import SGD
from amla.spec.trial import INSTRUMENTS, OWN_PASSES
from amla.trainers.instruments import EVERY
from amla.trainers.switched import IMAGES, branches_of
from amla.trainers.torch.device import default_device, device_name, memory_kept
from amla.trainers.torch.instruments import TIMED, Instruments
from amla.trainers.torch.kernels import join, measured_rules
from amla.trainers.torch.module import GraphModule, build, by_batch
from amla.trainers.torch.optim import make_optimizer

LISTENING = tuple(name for name in INSTRUMENTS if name not in OWN_PASSES)
#: What NAC reads by the paper's criterion, each instrument alone, and everything.
SETS = (("feature_map", "skip"), *((name,) for name in LISTENING), LISTENING)
#: The share of a step that all instruments together may cost.
ALLOWED = 0.05


class Steps:
    """Training steps of one network on one made-up batch."""

    def __init__(self, graph: Graph, batch: int, device: torch.device) -> None:
        self.module: GraphModule = build(graph, seed=0).to(device=device, memory_format=torch.channels_last).train()
        join(self.module, measured_rules(graph, batch, device, "float32"))
        self.optimizer = make_optimizer(SGD(momentum=0.9, nesterov=True), self.module)
        images = torch.randn((batch, *graph.input_shape), device=device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(batch, device=device) % graph.num_classes
        self.device = device

    def __call__(self, instruments: Instruments, step: int) -> float:
        """Seconds of one step, hanging on included."""
        began = time.perf_counter()
        instruments.listen(self.module, step)
        F.cross_entropy(self.module(self.images)[0], self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began


def cost(steps: Steps, graph: Graph, names: tuple[str, ...], rounds: int) -> tuple[float, float, float]:
    """(seconds of a plain step, of one that is listened to, share of a step that the instruments cost)."""
    others = tuple(name for name in names if name != "block_time")
    share = 0.0
    plain = listened = 0.0
    for some, often in ((others, 1 / EVERY), (("block_time",) if "block_time" in names else (), 2 / TIMED)):
        if not some:
            continue
        instruments = Instruments(graph, some, steps.device)
        steps(instruments, 0)
        pairs = [(steps(instruments, 1), steps(instruments, 0)) for _ in range(rounds)]
        plain = statistics.median(without for without, _ in pairs)
        extra = statistics.median(with_them - without for without, with_them in pairs)
        listened = plain + extra
        share += often * extra / plain
    return plain, listened, share


@torch.no_grad()
def looks(steps: Steps, graph: Graph) -> tuple[float, float]:
    """Seconds of a look at every branch: beginning where each differs, and by whole passes."""
    module = build(graph, seed=0).to(device=steps.device)
    module = by_batch(module.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    module.join(steps.module.joints)
    images = steps.images.repeat(-(-IMAGES // len(steps.images)), 1, 1, 1)[:IMAGES]
    images = images.contiguous(memory_format=torch.channels_last)
    outputs = [block.output for block in branches_of(graph)]
    began = time.perf_counter()
    for _, logits in module.logits_without(images, outputs):
        float(logits.sum())
    shared = time.perf_counter() - began
    for output in ("", *outputs):
        module.close([output] if output else [])
        float(module(images)[0].sum())
    return shared, time.perf_counter() - began - shared


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 32), ("width", 32), ("batch", 64), ("rounds", 12), ("threads", 0)):
        options.add_argument(f"--{name}", type=int, default=default)
    chosen = options.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    device = default_device()
    problem = Problem(input_shape=(3, chosen.side, chosen.side), num_classes=10, train_size=50_000)
    space = EnvelopeSpace(EnvelopeSettings(width=chosen.width), problem)
    graph = lower(space.initial(), problem.input_shape, problem.num_classes)
    with memory_kept():
        measure(graph, chosen.batch, chosen.rounds, device)


def measure(graph: Graph, batch: int, rounds: int, device: torch.device) -> None:
    """Print a row for each set of instruments."""
    steps = Steps(graph, batch, device)
    print(
        f"torch {torch.__version__}, {device_name(device)} ({platform.machine()}), {batch} images of {graph.input_shape[1]} "
        f"pixels a side, {len(graph.blocks)} blocks; one step in {EVERY} is listened to, "
        f"2 in {TIMED} are timed"
    )
    print(f"{'instruments':60s} {'plain ms':>9s} {'listened ms':>12s} {'cost':>7s}")
    for names in SETS:
        plain, listened, share = cost(steps, graph, names, rounds)
        what = "all" if len(names) == len(LISTENING) else ", ".join(names)
        print(f"{what:60s} {1000 * plain:9.1f} {1000 * listened:12.1f} {share:7.1%}")
    shared, whole = (seconds / plain for seconds in looks(steps, graph))
    print(f"switched_off, {IMAGES} images: a look takes as long as {shared:.1f} steps; by whole passes {whole:.1f}")
    if share > ALLOWED:
        raise SystemExit(f"all instruments together cost {share:.1%} of a step, more than {ALLOWED:.0%}")


if __name__ == "__main__":
    main()

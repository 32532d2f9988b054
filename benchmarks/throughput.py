"""How fast networks train: plain modules, plain modules in channels-last memory, and the plan that was measured.

    python benchmarks/throughput.py [--quick] [--compile] [--widths 16 32 64] [--rounds 7] [--threads 1] [--output FILE]

Plain is one convolution, norm and activation per branch, in torch's default layout, with torch's own defaults: as a user
would write it. With ``--compile`` there is one arm more, the plan compiled by torch as on a GPU, which takes minutes. Every
arm lives in a process of its own and they take turns, step by step, so that what else the machine does falls on all alike.
The bars: so many times the plain speed at each width, and never slower than plain channels-last.

The roofline: floating-point operations a second of a whole step, against the best plain large convolution, forward and
backward, in turn with the arms. *Useful* ones are those of the network itself, *done* ones those of the plan, zeros included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec.costs import costs
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.training import SGD
from amla.trainers.torch.compiled import COMPILERS
from amla.trainers.torch.device import default_device, device_name, memory_kept
from amla.trainers.torch.kernels import join, measured_rules, to_json
from amla.trainers.torch.module import build
from amla.trainers.torch.optim import make_optimizer

ARMS = ("plain", "channels_last", "plan")
COMPILED = "compiled plan"
PLANNED = ("plan", COMPILED)
#: Width of the first stage -> (input shape, halvings of the stem, images of a batch, times the plain speed at least).
CASES = {
    16: ((1, 28, 28), 1, 128, 2.5),
    32: ((3, 32, 32), 0, 128, 1.8),
    64: ((3, 32, 32), 0, 64, 1.3),
}
#: What a large plain convolution is: (channels, side of the image, kernel, images).
LARGE = ((64, 32, 3, 16), (128, 16, 3, 32), (256, 16, 3, 8), (256, 8, 3, 32))


def network(width: int) -> Graph:
    """The EnvelopeNet that NAC begins with."""
    shape, halvings, _, _ = CASES[width]
    problem = Problem(input_shape=shape, num_classes=10, train_size=50_000)
    space = EnvelopeSpace(EnvelopeSettings(width=width, halvings=halvings), problem)
    return lower(space.initial(), problem.input_shape, problem.num_classes)


def stepper(arm: str, width: int, rules: Any) -> tuple[Callable[[], None], int]:
    """One training step of an arm, and its floating-point operations."""
    shape, _, batch, _ = CASES[width]
    device = default_device()
    module = build(network(width), seed=0).to(device)
    images = torch.randn((batch, *shape), generator=torch.Generator().manual_seed(0)).to(device)
    labels = torch.arange(batch, device=device) % 10
    if arm != "plain":
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    module.train()
    if arm in PLANNED:
        join(module, rules)
        optimizer = make_optimizer(SGD(momentum=0.9, nesterov=True, weight_decay=5e-4), module)
    else:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    forward = torch.compile(module, dynamic=False, **COMPILERS["cuda"]) if arm == COMPILED else module

    def step() -> None:
        F.cross_entropy(forward(images)[0], labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(images)
    return step, 3 * counter.get_total_flops()  # torch counts those of a grouped convolution's backward pass too high


def work(pipe: Connection, arm: str, width: int, threads: int) -> None:
    """An arm's process: tells the floating-point operations and the plan, then the seconds of a step whenever asked."""
    if threads:
        torch.set_num_threads(threads)
    with memory_kept() if arm in PLANNED else contextlib.nullcontext():
        began = time.perf_counter()
        rules = measured_rules(network(width), CASES[width][2], default_device(), "float32") if arm in PLANNED else {}
        choosing = time.perf_counter() - began
        step, flops = stepper(arm, width, rules)
        step()
        step()
        pipe.send((flops, to_json(rules), choosing))
        while pipe.recv():
            began = time.perf_counter()
            step()
            pipe.send(time.perf_counter() - began)


def large(device: torch.device) -> float:
    """Floating-point operations a second of the best large convolution, forward and backward."""
    best = 0.0
    for channels, side, kernel, images in LARGE:
        x = torch.randn((images, channels, side, side), device=device, requires_grad=True)
        x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.randn((channels, channels, kernel, kernel), device=device, requires_grad=True)
        for _ in range(3):
            began = time.perf_counter()
            out = F.conv2d(x, weight, padding=kernel // 2)
            torch.autograd.grad(out, (x, weight), out)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - began
            best = max(best, 3 * 2 * images * side**2 * channels**2 * kernel**2 / seconds)
    return best


@contextlib.contextmanager
def processes(width: int, threads: int, arms: Sequence[str]) -> Iterator[dict[str, Connection]]:
    """A process for every arm; its end of the pipe by name."""
    context = multiprocessing.get_context("spawn")
    pipes, running = {}, []
    for arm in arms:
        pipes[arm], theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, arm, width, threads), daemon=True)
        process.start()
        running.append(process)
        pipes[arm].poll(None)  # one after the other: choosing a plan is to have the machine for itself
    yield pipes
    for pipe in pipes.values():
        pipe.send(False)
    for process in running:
        process.join()


def measure(width: int, rounds: int, threads: int, arms: Sequence[str]) -> dict[str, Any]:
    """All arms at one width, side by side."""
    with processes(width, threads, arms) as pipes:
        told = {arm: pipe.recv() for arm, pipe in pipes.items()}
        times: dict[str, list[float]] = {arm: [] for arm in arms}
        rates = []
        for _ in range(rounds):
            for arm, pipe in pipes.items():
                pipe.send(True)
                times[arm].append(pipe.recv())
            rates.append(large(default_device()))
    batch = CASES[width][2]
    seconds = {arm: statistics.median(taken) for arm, taken in times.items()}
    useful = 3 * 2 * costs(network(width)).flops * batch
    return {
        "width": width,
        "input": CASES[width][0],
        "batch": batch,
        "seconds": times,
        "images_per_second": {arm: batch / taken for arm, taken in seconds.items()},
        "times_plain": {arm: statistics.median(ratios(times["plain"], times[arm])) for arm in arms},
        "times_channels_last": statistics.median(ratios(times["channels_last"], times["plan"])),
        "bar": CASES[width][3],
        "large_convolution_flops": max(rates),
        "useful_flops": {arm: useful / taken for arm, taken in seconds.items()},
        "done_flops": {arm: told[arm][0] / taken for arm, taken in seconds.items()},
        "plan": told["plan"][1],
        "plan_seconds": told["plan"][2],
    }


def ratios(one: list[float], two: list[float]) -> list[float]:
    """Round by round."""
    return [first / second for first, second in zip(one, two, strict=True)]


def table(found: dict[str, Any]) -> list[str]:
    """A row of markdown for each arm."""
    rows = []
    roof = found["large_convolution_flops"]
    for arm in found["seconds"]:
        useful, done = found["useful_flops"][arm], found["done_flops"][arm]
        rows.append(
            f"| {found['width']} | {arm} | {found['images_per_second'][arm]:.0f} | {found['times_plain'][arm]:.2f} | "
            f"{useful / 1e9:.1f} | {useful / roof:.0%} | {done / 1e9:.1f} | {done / roof:.0%} |"
        )
    return rows


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="3 rounds instead of 7")
    options.add_argument("--compile", action="store_true", help="one more arm: the plan compiled by torch")
    options.add_argument("--widths", type=int, nargs="+", default=list(CASES), choices=CASES)
    options.add_argument("--rounds", type=int)
    options.add_argument("--threads", type=int, default=0)
    options.add_argument("--output", type=Path, default=Path("throughput.json"))
    chosen = options.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    machine = f"{device_name(default_device())} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    print(f"torch {torch.__version__}, {machine}, float32\n")
    print("| width | arm | images/s | x plain | useful GFLOP/s | of the roof | done GFLOP/s | of the roof |")
    print("|---|---|---|---|---|---|---|---|")
    results = []
    for width in chosen.widths:
        arms = (*ARMS, COMPILED) if chosen.compile else ARMS
        found = measure(width, chosen.rounds or (3 if chosen.quick else 7), chosen.threads, arms)
        results.append(found)
        print("\n".join(table(found)), flush=True)
    print()
    for found in results:
        ratio, layout = found["times_plain"]["plan"], found["times_channels_last"]
        met = "met" if ratio >= found["bar"] and layout >= 1.0 else "missed"
        print(
            f"width {found['width']}: {ratio:.2f} times plain (bar {found['bar']}), {layout:.2f} times channels-last: {met}; "
            f"roof {found['large_convolution_flops'] / 1e9:.0f} GFLOP/s; plan {json.dumps(found['plan'])}, "
            f"chosen in {found['plan_seconds']:.1f} s"
        )
    chosen.output.write_text(json.dumps({"torch": torch.__version__, "machine": machine, "results": results}, indent=2))


if __name__ == "__main__":
    main()

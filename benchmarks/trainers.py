"""Both trainers side by side, each in a process of its own: images a second, memory, compile time, time to an accuracy.

    python benchmarks/trainers.py [--epochs 20] [--limit 1000] [--accuracy 0.9] [--quick] [--json FILE]

A NAC network (two stages of one envelope layer) is trained on digits with the default recipe. ``start`` is the first step,
which compiles where a library compiles; ``images/s`` is of the steps after it; ``memory`` is the largest resident size of
the whole process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from amla import datasets
from amla.api import make_trainer
from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec.data import DatasetSpec
from amla.spec.experiment import Problem
from amla.spec.training import Budget, Training
from amla.spec.trial import Job, Progress, TrialSpec
from amla.trainers import loop

TRAINERS = ("torch", "keras")


def measured(name: str, epochs: float, limit: int, accuracy: float) -> dict[str, Any]:
    """What one trainer takes, in this process."""
    spec = DatasetSpec(name="digits", limit=limit)
    data = datasets.load(spec)
    info = data.info
    problem = Problem(input_shape=info.input_shape, num_classes=info.num_classes, train_size=info.sizes["train"])
    network = EnvelopeSpace(EnvelopeSettings(width=16, layers=(1, 1)), problem).initial()
    loop.REPORT = 0.0
    trainer = make_trainer(name)
    times: list[float] = []
    reached: list[float] = []

    def report(progress: Progress) -> bool:
        times.append(time.perf_counter())
        if progress.accuracy is not None and progress.accuracy >= accuracy:
            reached.append(times[-1])
        return True

    with tempfile.TemporaryDirectory() as folder:
        asked = TrialSpec(architecture=network, training=Training(precision="float32"), budget=Budget(epochs=epochs))
        job = Job(experiment="benchmark", number=0, seed=0, spec=asked, dataset=spec, trainer=name, folder=folder)
        began = time.perf_counter()
        result = trainer.train(job, data, report)
    steps = sorted(two - one for one, two in itertools.pairwise(times))
    return {
        "parameters": result.parameters,
        "start": times[0] - began,
        "images/s": min(asked.training.batch_size, info.sizes["train"]) / steps[len(steps) // 2],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        "seconds": result.cost.seconds,
        "to accuracy": reached[0] - began if reached else None,
        "accuracy": result.accuracy,
        "device": result.cost.device,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--limit", type=int, default=1000, help="images of each split at most")
    parser.add_argument("--accuracy", type=float, default=0.9, help="on the validation split, in [0, 1]")
    parser.add_argument("--quick", action="store_true", help="4 epochs of 256 images: whether it runs, not how fast")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--only", choices=TRAINERS, help="one of them, in this process, as JSON")
    asked = parser.parse_args()
    epochs, limit = (4.0, 256) if asked.quick else (asked.epochs, asked.limit)
    if asked.only:
        print(json.dumps(measured(asked.only, epochs, limit, asked.accuracy)))
        return
    figures = {name: apart(name, sys.argv[1:]) for name in TRAINERS}
    print(table(figures, asked.accuracy))
    if asked.json:
        asked.json.write_text(json.dumps({"epochs": epochs, "limit": limit, "trainers": figures}, indent=2) + "\n")


def apart(name: str, options: list[str]) -> dict[str, Any]:
    """The figures of one trainer, from a process of its own. Errors: ``CalledProcessError``."""
    words = [sys.executable, __file__, *options, "--only", name]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(figures: dict[str, dict[str, Any]], accuracy: float) -> str:
    """The figures side by side, in Markdown."""
    rows = [
        f"| trainer | parameters | start, s | images/s | memory, MiB | training, s | to {accuracy:.0%}, s | accuracy | device |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in figures.items():
        late = "never" if found["to accuracy"] is None else f"{found['to accuracy']:.1f}"
        rows.append(
            f"| {name} | {found['parameters']:,} | {found['start']:.1f} | {found['images/s']:,.0f} | {found['memory']:,.0f} | "
            f"{found['seconds']:.1f} | {late} | {100 * found['accuracy']:.1f} % | {found['device']} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()

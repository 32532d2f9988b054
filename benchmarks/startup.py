"""How long the command line takes to start, and what a run spends on other things than training.

    python benchmarks/startup.py [--quick] [--output startup.json]

Bars: `import amla` under 0.3 s, `amla --help` under 0.5 s, from the command to the first training step of a search of digits
under 5 s; evaluation, statistics and checkpoints together under 5 % of a run.

Processes are timed from outside, the least of a few. The first step is told by the trainer, at most a quarter of a second
late; *first time* is with an empty cache, when the plan of the cells is measured. The share is that of the functions that
do these things, by Python's profiler, in a training with the instruments that NAC reads.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from amla import datasets
from amla.searchers.nac import NAC, NACSettings
from amla.spec.data import DatasetSpec
from amla.spec.experiment import Problem
from amla.spec.training import Budget, Training
from amla.spec.trial import Job
from amla.trainers.torch.trainer import TorchTrainer

#: What each figure must stay under: seconds, and a share.
BARS = {
    "import amla": 0.3,
    "amla --help": 0.5,
    "first step, first time": 5.0,
    "first step": 5.0,
    "besides training": 0.05,
}
#: A search of digits that ends at its first report.
FIRST_STEP = """
import os, amla
def report(progress):
    os._exit(0)
amla.search("digits", store="sqlite:///store.db", out="run", watch=amla.Watch(report=report))
"""
HELP = "from amla.cli import main; main(['--help'])"
#: Functions of the trainer whose time is not training: (file, function).
BESIDES = {
    ("evaluation.py", "measured_on"),
    ("state.py", "save"),
    ("instruments.py", "tap"),
    ("instruments.py", "arrived"),
    ("instruments.py", "listen"),
    ("instruments.py", "read"),
    ("loop.py", "_switched_off"),
}


def seconds(code: str, repeats: int, cache: Path | None = None) -> float:
    """Of a fresh Python that runs this, in a folder of its own: the least of so many."""
    taken = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"XDG_CACHE_HOME": str(cache or folder)}
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", code], check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL
            )
            taken.append(time.perf_counter() - began)
    return min(taken)


def besides(steps: int, folder: Path) -> tuple[float, dict[str, float]]:
    """The share of a truncated training of digits, as NAC asks for it, that is not training, and the seconds of each part."""
    spec = DatasetSpec(name="digits")
    data = datasets.load(spec)
    problem = Problem(input_shape=data.info.input_shape, num_classes=10, train_size=data.info.sizes["train"])
    asked = NAC(NACSettings(), problem).suggest([], 0)
    assert asked is not None
    trial = asked.model_copy(update={"training": Training(precision="float32"), "budget": Budget(steps=steps)})
    job = Job(experiment="startup", number=0, seed=0, spec=trial, dataset=spec, trainer="torch", folder=str(folder))
    profile = cProfile.Profile()
    began = time.perf_counter()
    profile.runcall(TorchTrainer().train, job, data)
    whole = time.perf_counter() - began
    parts: dict[str, float] = {}
    for (file, _, function), entry in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]  # missing in the stubs
        if (Path(file).name, function) in BESIDES:
            name = f"{Path(file).stem}.{function}"
            parts[name] = parts.get(name, 0.0) + entry[3]
    return sum(parts.values()) / whole, parts


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="two repeats and 300 steps instead of five and 1000")
    options.add_argument("--output", type=Path, default=Path("startup.json"))
    chosen = options.parse_args()
    repeats, steps = (2, 300) if chosen.quick else (5, 1000)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        figures = {
            "import amla": seconds("import amla", repeats),
            "amla --help": seconds(HELP, repeats),
            "first step, first time": seconds(FIRST_STEP, 1, cache),
            "first step": seconds(FIRST_STEP, repeats, cache),
        }
        figures["besides training"], parts = besides(steps, Path(folder) / "job")
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads\n")
    print("| what | measured | bar |\n|---|---|---|")
    for name, value in figures.items():
        unit = f"{value:.1%} | {BARS[name]:.0%}" if name == "besides training" else f"{value:.2f} s | {BARS[name]} s"
        print(f"| {name} | {unit} |")
    print("\n" + ", ".join(f"{name} {value:.2f} s" for name, value in sorted(parts.items())))
    chosen.output.write_text(json.dumps({"figures": figures, "bars": BARS, "parts": parts}, indent=2))


if __name__ == "__main__":
    main()

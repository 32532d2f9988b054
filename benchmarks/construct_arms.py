"""The arms of ``construct.py``: what each of them runs, and the one line that a run leaves behind.

An arm is written ``BASE[+MODIFIER...]``, or ``CONTROL:ARM`` where it is a control of another arm, whose row of the same
seed it needs.

- BASE is a criterion (``mean_square``, ``taylor``, ``switched_off``, ``random``, ``none``, ...): NAC while training, one
  training of all steps;
- MODIFIER is ``afresh`` (the paper's procedure), ``noscale`` (norms without a scale), ``noskips``, ``kind`` (scores
  relative to their kind of operation), ``keep`` (pruning only, nothing grows), ``lapse`` (a pruned branch's channels are
  gone), ``share25`` and ``share10`` (so many hundredths of the steps constructing, not a half), ``short`` (0.8 of the
  steps), ``extra12`` or ``extra25`` (so many hundredths more steps);
- CONTROL is ``scratch`` (the final architecture of that arm, trained alone along the whole schedule), ``matched`` (branches
  pruned by lot, of many draws the one closest in parameters at each construction), ``plain`` (the unpruned envelope, as wide
  as gives the same parameters, for the same steps), ``even`` (of a ``plain`` control: the same for as many steps as take the
  processor as long as the arm itself took), ``envelope`` (as ``plain``, for about the same processor time by a short timing,
  which can be far off), ``deep`` (as ``envelope``, as deep as the final network), ``search`` (random search) or
  ``evolution``, both of networks with at most as many parameters, for the same steps.

``rankings`` trains the first envelope only and reads every criterion off it.
"""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field

from amla import datasets
from amla.datasets.base import Dataset
from amla.engine.memory import play
from amla.engine.options import spec_of
from amla.engine.prepare import prepare
from amla.searchers.nac import NAC, NACSettings, construct_within
from amla.spaces.edits import branches_of
from amla.spaces.envelope import EnvelopeSettings, EnvelopeSpace
from amla.spec.architecture import Architecture, MacroArchitecture
from amla.spec.base import Document
from amla.spec.costs import costs
from amla.spec.data import DatasetSpec
from amla.spec.experiment import ExperimentSpec, Problem
from amla.spec.lower import lower
from amla.spec.training import SGD
from amla.spec.trial import INSTRUMENTS, Job, Result, Statistics, Trial
from amla.trainers.base import Reporter, silent
from amla.trainers.torch.device import memory_kept
from amla.trainers.torch.kernels import join, measured_rules
from amla.trainers.torch.module import build
from amla.trainers.torch.optim import make_optimizer
from amla.trainers.torch.trainer import TorchTrainer, device_name

#: Steps that are timed, to give a control the same processor time.
TIMED = 40
#: Rankings by lot that ``matched`` draws at each construction.
DRAWS = 300


class Setting(Document):
    """The scale of a comparison: data, space and length. All arms of a setting share it."""

    name: str
    limit: int = 20_000
    steps: int = Field(description="optimizer steps of an arm, search and final training together")
    batch_size: int = 64
    rate: float = 0.07
    width: int = 16
    layers: tuple[int, ...] = (1, 1)
    max_layers: tuple[int, ...] = (2, 2)
    halvings: int = 2
    iterations: int = 2
    share: float = 0.5
    trials: int = Field(6, description="networks of random search and of evolution")


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(name="small", steps=400),
        Setting(name="wide", steps=300, width=48),
        Setting(name="medium", steps=1600),
        Setting(name="long", steps=4000),
        Setting(name="quick", steps=160, limit=6000),
    )
}


class Read(Document):
    """A reading of the validation split: after so many steps and seconds of the processor, all trials counted."""

    steps: int
    seconds: float
    accuracy: float


class Row(Document):
    """What one run left behind. Seconds are the processor's, of this process, with one thread; the test is not among them."""

    data: str
    setting: str
    arm: str
    seed: int
    steps: int = 0
    seconds: float = 0.0
    search_seconds: float = 0.0
    wall_seconds: float = 0.0
    parameters: int = 0
    flops: int = 0
    chain: tuple[int, ...] = Field((), description="parameters of every network that was trained, in order")
    valid: float = -1.0
    test: float = -1.0
    curve: tuple[Read, ...] = ()
    pruned: tuple[tuple[str, ...], ...] = ()
    agreement: tuple[float, ...] = Field((), description="tau of the ranking at half a truncated training with its end")
    architecture: Architecture | None = None
    rankings: Statistics = {}
    device: str = ""
    versions: str = ""


Rows = Mapping[tuple[str, int], Row]


class MatchedSettings(NACSettings):
    parameters: tuple[int, ...] = Field(description="of the network after each construction, as closely as can be")


class Matched(NAC):
    """Random pruning whose networks have, construction by construction, the parameters of another run's."""

    Settings = MatchedSettings

    def _constructed(self, number: int) -> tuple[MacroArchitecture, dict[str, Any]]:
        parent = self.chain[-1]
        assert isinstance(parent.spec.architecture, MacroArchitecture)
        assert isinstance(self.settings, MatchedSettings)
        wanted = self.settings.parameters[len(self.chain) - 1]
        names = [name for name, _ in branches_of(parent.spec.architecture)]
        given = parent.result.statistics if parent.result else {}
        scalars = {block: values["scalar"] for block, values in given.items() if "scalar" in values}
        rng = self.problem.rng(number)
        best: tuple[int, MacroArchitecture, Any] | None = None
        for _ in range(DRAWS):
            scores = dict(zip(names, rng.random(len(names)).tolist(), strict=True))
            network, change = construct_within(parent.spec.architecture, self.space, self.settings, scores, scalars)
            off = abs(parameters_of(network, self.problem) - wanted)
            if best is None or off < best[0]:
                best = (off, network, change)
        assert best is not None
        return best[1], {name: list(values) for name, values in best[2]._asdict().items()}


class Clocked(TorchTrainer):
    """The trainer, with the processor's seconds of each trial beside its result."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def train(self, job: Job, data: Dataset, report: Reporter = silent) -> Result:
        began = time.process_time()
        result = super().train(job, data, report)
        self.seconds.append(time.process_time() - began)
        return result


# ------------------------------------------------------------------------------------------------------------------- arms
def needed(arm: str) -> str | None:
    """The arm whose row a control needs."""
    return arm.split(":", 1)[1] if ":" in arm else None


def controlled(arm: str, seed: int, rows: Rows) -> list[Row]:
    """The rows of the arm that this one is a control of, of the arm that that one is a control of, and so on. Errors:
    ``SystemExit`` where one has not run."""
    other = needed(arm)
    if other is None:
        return []
    if (other, seed) not in rows:
        raise SystemExit(f"{arm}, seed {seed}: run the arm {other} with this seed first")
    return [rows[other, seed], *controlled(other, seed, rows)]


def options_of(arm: str, setting: Setting, problem: Problem, others: Sequence[Row]) -> dict[str, Any]:
    """What an arm asks for, beside what all have. ``others`` are the rows of ``controlled``."""
    if not others:
        return _construction(arm, setting)
    row = others[0]
    control, assumed = arm.split(":", 1)[0], _construction(arm.rsplit(":", 1)[1], setting)
    same = {key: assumed[key] for key in ("space_settings", "steps")}
    match control:
        case "scratch" | "even":
            assert row.architecture is not None
            network = {"architecture": row.architecture.to_data()}
            steps = setting.steps if control == "scratch" else round(row.steps * others[1].seconds / row.seconds)
            return same | {"steps": steps, "searcher": "fixed", "settings": network}
        case "matched":
            settings = assumed["settings"] | {"criterion": "random", "parameters": list(row.chain[1:])}
            return assumed | {"searcher": f"{Matched.__module__}:Matched", "settings": settings}
        case "envelope" | "plain" | "deep":
            depth = setting.layers if control != "deep" else [len(s.layers) for s in _macro(row).stages]
            space = assumed["space_settings"] | {"layers": list(depth), "max_layers": list(depth)}
            space["width"] = matched_width(space, row.parameters, problem)
            steps = same["steps"] if control == "plain" else _affordable(space, row, setting, problem)
            return {"searcher": "envelope", "space_settings": space, "steps": steps}
        case "search" | "evolution":
            each = max(1, round(setting.share * same["steps"] / setting.trials))
            # NAC's last growth reaches one layer more than max_layers
            space = same["space_settings"] | {"max_layers": [most + 1 for most in setting.max_layers]}
            of_evolution = {"settings": {"population": max(2, setting.trials // 2), "sample": 2}}
            return {
                "searcher": "random" if control == "search" else "evolution",
                **(of_evolution if control == "evolution" else {}),
                "space_settings": space,
                "trials": setting.trials,
                "search_steps": each,
                "steps": same["steps"] - setting.trials * each,
                "max_params": row.parameters,
            }
    raise SystemExit(f"{arm}: no such control; see the top of construct_arms.py")


def _construction(arm: str, setting: Setting) -> dict[str, Any]:
    criterion, *modifiers = arm.split("+")
    shares = {"share25": 0.25, "share10": 0.1}
    lengths = {"short": 0.8, "extra12": 1.12, "extra25": 1.25}
    known = {"afresh", "noscale", "noskips", "kind", "keep", "lapse", *shares, *lengths}
    if set(modifiers) - known:
        raise SystemExit(f"{arm}: a modifier is one of {', '.join(sorted(known))}")
    steps = round(setting.steps * next((lengths[m] for m in modifiers if m in lengths), 1.0))
    share = next((shares[m] for m in modifiers if m in shares), setting.share)
    space: dict[str, Any] = {
        "width": setting.width,
        "layers": list(setting.layers),
        "max_layers": list(setting.max_layers),
        "halvings": setting.halvings,
        "skips": "noskips" not in modifiers,
        "style": {"norm_scale": "noscale" not in modifiers},
    }
    settings: dict[str, Any] = {"criterion": criterion, "iterations": setting.iterations}
    settings |= {"normalise": "kind"} if "kind" in modifiers else {}
    settings |= {"grow": False} if "keep" in modifiers else {}
    settings |= {"freed_channels": "lapse"} if "lapse" in modifiers else {}
    asked: dict[str, Any] = {"searcher": "nac", "space_settings": space, "steps": steps}
    if "afresh" in modifiers:
        each = round(share * steps / setting.iterations)
        own = {"search_steps": each, "steps": steps - setting.iterations * each}
        return asked | own | {"settings": settings | {"mode": "afresh"}}
    return asked | {"settings": settings | {"mode": "while_training", "share": share}}


def matched_width(space_settings: Mapping[str, Any], parameters: int, problem: Problem) -> int:
    """The width at which the envelope's parameters are closest."""

    def off(width: int) -> int:
        settings = EnvelopeSettings.parse({**space_settings, "width": width})
        return abs(parameters_of(EnvelopeSpace(settings, problem).initial(), problem) - parameters)

    return min(range(6, 129), key=off)


def parameters_of(network: Architecture, problem: Problem) -> int:
    return costs(lower(network, problem.input_shape, problem.num_classes)).parameters


def _macro(row: Row) -> MacroArchitecture:
    assert isinstance(row.architecture, MacroArchitecture)
    return row.architecture


def _affordable(space_settings: Mapping[str, Any], row: Row, setting: Setting, problem: Problem) -> int:
    """Steps of the envelope that take the processor as long as the whole of another run, by the plan that it is trained by."""
    graph = lower(
        EnvelopeSpace(EnvelopeSettings.parse(space_settings), problem).initial(),
        problem.input_shape,
        problem.num_classes,
    )
    module = build(graph, 0).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    join(module, measured_rules(graph, setting.batch_size, torch.device("cpu"), "float32"))
    optimizer = make_optimizer(SGD(momentum=0.9, nesterov=True), module)
    images = torch.randn((setting.batch_size, *problem.input_shape)).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(setting.batch_size) % problem.num_classes
    taken = []
    with memory_kept():
        for _ in range(TIMED):
            began = time.process_time()
            F.cross_entropy(module(images)[0], labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            taken.append(time.process_time() - began)
    return max(1, round(row.seconds / statistics.median(taken[1:])))


# -------------------------------------------------------------------------------------------------------------------- runs
def run(data: str, setting: Setting, arm: str, seed: int, rows: Rows) -> Row:
    """One arm and seed, to its test. Errors: ``SystemExit`` where the arm that it is a control of has not run."""
    spec = DatasetSpec(name=data, limit=setting.limit, seed=0)
    loaded = datasets.load(spec)
    for split in () if loaded.streamed else ("train", "valid"):
        loaded.arrays(split)  # decoded now, so that no trial's seconds have it in them
    problem = Problem(
        input_shape=loaded.info.input_shape,
        num_classes=loaded.info.num_classes,
        train_size=loaded.info.sizes["train"],
        seed=seed,
    )
    base = Row(data=data, setting=setting.name, arm=arm, seed=seed, versions=f"torch {torch.__version__}")
    base = base.model_copy(update={"device": f"{device_name(torch.device('cpu'))}, {platform.machine()}"})
    with tempfile.TemporaryDirectory() as folder:
        if arm == "rankings":
            asked = experiment_of(data, setting, seed, _construction("none", setting))
            return base.model_copy(update=_rankings(asked, loaded, folder))
        options = options_of(arm, setting, problem, controlled(arm, seed, rows))
        asked = experiment_of(data, setting, seed, options)
        return base.model_copy(update=_ran(asked, loaded, folder))


def experiment_of(data: str, setting: Setting, seed: int, options: Mapping[str, Any]) -> ExperimentSpec:
    """The data is split alike for all seeds; a seed decides weights, order, augmentation and draws by lot."""
    common: dict[str, Any] = {
        "dataset": {"name": data, "limit": setting.limit, "seed": 0},
        "seed": seed,
        "threads": 1,
        "precision": "float32",
        "batch_size": setting.batch_size,
        "training": {"schedule": {"kind": "one_cycle", "rate": setting.rate}},
    }
    return spec_of(common | options)


def _ran(asked: ExperimentSpec, data: Dataset, folder: str) -> dict[str, Any]:
    trainer, began = Clocked(), time.perf_counter()
    experiment = prepare(asked, data.info, trainer, folder, "construct")
    trials = play(experiment, trainer, data)
    trained = [trial for trial in trials if trial.spec.purpose != "test"]
    failed = next((trial for trial in trials if trial.result is None or trial.result.failure), None)
    if failed is not None:
        raise SystemExit(f"trial {failed.number} failed: {failed.result and failed.result.failure}")
    last, test = trained[-1], trials[-1]
    assert last.result is not None
    assert test.result is not None
    return {
        "steps": sum(trial.result.cost.steps for trial in trained if trial.result),
        "seconds": sum(trainer.seconds),
        "search_seconds": sum(trainer.seconds[:-1]),
        "wall_seconds": time.perf_counter() - began,
        "parameters": last.result.parameters,
        "flops": last.result.flops,
        "chain": tuple(trial.result.parameters for trial in trained if trial.result),
        "valid": last.result.accuracy,
        "test": test.result.metrics["test"]["accuracy"],
        "curve": tuple(_readings(trained, trainer.seconds)),
        "pruned": tuple(tuple(_list(trial, "pruned")) for trial in trained[1:]),
        "agreement": tuple(float(str(t.spec.memo["agreement"])) for t in trained if "agreement" in t.spec.memo),
        "architecture": last.spec.architecture,
    }


def _list(trial: Trial, key: str) -> list[str]:
    value = trial.spec.memo.get(key, [])
    return [str(one) for one in value] if isinstance(value, list) else []


def _readings(trials: Sequence[Trial], seconds: Sequence[float]) -> list[Read]:
    """Every reading of the validation split; within a trial all steps take the same time."""
    found: list[Read] = []
    steps, clock = 0, 0.0
    for trial, taken in zip(trials, seconds, strict=True):
        assert trial.result is not None
        own = trial.result.cost.steps
        before = trial.result.position - own
        for point in trial.result.curve:
            if point.accuracy is not None:
                done = point.step - before
                found.append(Read(steps=steps + done, seconds=clock + taken * done / own, accuracy=point.accuracy))
        steps, clock = steps + own, clock + taken
        found.append(Read(steps=steps, seconds=clock, accuracy=trial.result.accuracy))
    return found


def _rankings(asked: ExperimentSpec, data: Dataset, folder: str) -> dict[str, Any]:
    """All statistics of the branches of the first envelope, at the end of the first truncated training."""
    trainer = Clocked()
    experiment = prepare(asked, data.info, trainer, folder, "construct")
    first = NAC(NACSettings.parse(asked.settings), experiment.problem).suggest([], 0)
    assert first is not None
    spec = first.model_copy(update={"instruments": tuple(sorted(set(INSTRUMENTS) - {"block_time", "skip"}))})
    job = Job(
        experiment="construct",
        number=0,
        seed=asked.seed,
        spec=spec,
        dataset=asked.dataset,
        folder=folder,
        resources=asked.resources,
        measured=experiment.measured,
    )
    result = trainer.train(job, data)
    return {
        "steps": result.cost.steps,
        "seconds": sum(trainer.seconds),
        "valid": result.accuracy,
        "parameters": result.parameters,
        "rankings": json.loads(json.dumps(result.statistics)),
    }

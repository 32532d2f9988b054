"""Searchers raced on a table of results, over many seeds, in memory: how good is what each finds, and how soon?"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, JsonValue

from amla import datasets
from amla.datasets.table import SUFFIXES, TableDataset
from amla.engine.memory import play
from amla.engine.prepare import prepare
from amla.engine.rehearsal import make_searcher
from amla.engine.summary import final_trial
from amla.errors import ConfigError, SearchError
from amla.spaces.nasbench201 import arch_str
from amla.spec.base import Document
from amla.spec.data import DatasetSpec
from amla.spec.experiment import Experiment, ExperimentSpec
from amla.spec.objectives import usable
from amla.spec.trial import Trial
from amla.trainers.base import Trainer
from amla.trainers.tabular.trainer import TabularTrainer

SPACE, TRAINER = "nasbench201", "tabular"
#: Evaluations of a search where nothing is said; and at most where only a time is given: as many as there are networks.
USUAL, ALL = 200, 15_625
#: Parts into which the seeds of a race are cut, for each process: progress is told after each.
PARTS = 8


class Race(Document):
    """One searcher on one data set of a table (``table`` as in ``table:FILE#cifar10``), to be run over seeds."""

    table: str
    dataset: str
    searcher: str
    settings: dict[str, JsonValue] = {}
    evaluations: int = Field(USUAL, ge=1)
    time_budget: float | None = Field(None, gt=0.0, description="simulated seconds of all evaluations together")
    workers: int = Field(1, ge=1, description="simulated machines that evaluate at once")

    def spec(self) -> ExperimentSpec:
        """Of the experiment with seed 0."""
        return ExperimentSpec(
            dataset=DatasetSpec(name=f"table:{self.table}#{self.dataset}"),
            searcher=self.searcher,
            settings=self.settings,
            space=SPACE,
            trainer=TRAINER,
            trials=self.evaluations,
            time_budget=self.time_budget,
            jobs=self.workers,
        )


class Outcome(NamedTuple):
    """One seed. ``test`` is that of the network chosen by validation; the incumbents are it after every evaluation:
    (simulated seconds so far, test accuracy). Accuracies are in [0, 1]."""

    seed: int
    valid: float
    test: float
    incumbents: list[tuple[float, float]]


class Row(Document):
    """A race in numbers: accuracies and regret in per cent. ``test_std`` is the standard deviation over seeds."""

    searcher: str
    dataset: str
    evaluations: int
    seeds: int
    test_mean: float
    test_std: float
    regret_mean: float
    seconds: float = Field(description="on the clock, for all seeds together")
    valid_mean: float
    evaluations_mean: float = Field(description="as many as there were: a time budget, or a searcher, may end before")
    simulated_seconds: float = Field(description="of all evaluations of a seed, on average")


class Curve(NamedTuple):
    """Regret in per cent after every evaluation: mean over seeds, its standard error, and mean simulated seconds."""

    regret: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]


def check(races: Sequence[Race]) -> None:
    """Prepare every race, so that whatever is wrong is said before anything runs. Errors: ``AmlaError`` in one line."""
    for race in races:
        experiment, _ = _prepared(race)
        if make_searcher(experiment.spec, experiment.problem).finished:
            raise ConfigError(f"searcher {race.searcher!r}: it searches nothing, so there is nothing to race")


def nobody(seeds: int) -> None:
    """A listener that does not listen."""


def run(
    race: Race, seeds: Sequence[int], processes: int = 1, done: Callable[[int], None] = nobody
) -> tuple[Row, Curve]:
    """Run a race; ``done`` hears how many more seeds have ended. Errors: ``SearchError``, ``ConfigError`` (no seed)."""
    if not seeds:
        raise ConfigError("seeds: the list is empty; give at least one")
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    for part in _parts(race, seeds, processes):
        outcomes += part
        done(len(part))
    outcomes.sort(key=lambda outcome: outcome.seed)
    best = _data(race.spec().dataset.name).best_test
    return _row(race, outcomes, best, time.perf_counter() - began), _curve(outcomes, best)


def outcome(race: Race, seed: int) -> Outcome:
    """One seed of a race."""
    prepared, trainer = _prepared(race)
    data = _data(prepared.spec.dataset.name)
    spec, problem = (document.model_copy(update={"seed": seed}) for document in (prepared.spec, prepared.problem))
    trials = play(prepared.model_copy(update={"spec": spec, "problem": problem}), trainer, data)
    result, chosen = trials[-1].result, final_trial(trials)
    if result is None or chosen is None:
        raise SearchError(f"{race.searcher}: seed {seed} ended without a test")
    valid = data.entry(arch_str(chosen.spec.architecture), min(SUFFIXES)).valid
    return Outcome(seed, valid, result.metrics["test"]["accuracy"], list(_incumbents(trials, data)))


def _outcomes(race: str, seeds: Sequence[int]) -> list[Outcome]:
    """What a process of the pool does; documents travel as JSON."""
    parsed = Race.from_json(race)
    return [outcome(parsed, seed) for seed in seeds]


def _parts(race: Race, seeds: Sequence[int], processes: int) -> Iterator[list[Outcome]]:
    count = min(len(seeds), processes * PARTS)
    parts = [list(seeds[start::count]) for start in range(count)]
    if processes == 1:
        yield from (_outcomes(race.to_json(), part) for part in parts)
        return
    pool = _pool(processes)
    for future in as_completed([pool.submit(_outcomes, race.to_json(), part) for part in parts]):
        yield future.result()


@functools.lru_cache(maxsize=1)
def _pool(processes: int) -> ProcessPoolExecutor:
    """Kept for all races: a process reads its tables once."""
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))


def _incumbents(trials: Sequence[Trial], data: TableDataset) -> Iterator[tuple[float, float]]:
    """After every evaluation, in the order in which they ended: the best by validation so far."""
    searched = [trial for trial in trials if trial.spec.purpose == "search" and trial.result is not None]
    seconds, best, test = 0.0, -1.0, 0.0
    for trial in sorted(searched, key=lambda trial: trial.finished_seq or 0):
        assert trial.result is not None
        seconds += trial.result.cost.seconds
        if usable(trial) and trial.result.accuracy > best:
            best = trial.result.accuracy
            test = data.entry(arch_str(trial.spec.architecture), max(SUFFIXES)).test
        yield seconds, test


def _row(race: Race, outcomes: Sequence[Outcome], best: float, seconds: float) -> Row:
    tests = 100.0 * np.array([outcome.test for outcome in outcomes])
    return Row(
        searcher=race.searcher,
        dataset=race.dataset,
        evaluations=race.evaluations,
        seeds=len(outcomes),
        test_mean=round(float(tests.mean()), 4),
        test_std=round(float(tests.std()), 4),
        regret_mean=round(100.0 * best - float(tests.mean()), 4),
        seconds=round(seconds, 4),
        valid_mean=round(100.0 * float(np.mean([outcome.valid for outcome in outcomes])), 4),
        evaluations_mean=round(float(np.mean([len(outcome.incumbents) for outcome in outcomes])), 1),
        simulated_seconds=round(float(np.mean([outcome.incumbents[-1][0] for outcome in outcomes])), 1),
    )


def _curve(outcomes: Sequence[Outcome], best: float) -> Curve:
    """Seeds that ended before the longest one keep what they had found."""
    length = max(len(outcome.incumbents) for outcome in outcomes)
    filled = [outcome.incumbents + outcome.incumbents[-1:] * (length - len(outcome.incumbents)) for outcome in outcomes]
    table = np.array(filled)
    regrets = 100.0 * (best - table[:, :, 1])
    return Curve(regrets.mean(axis=0), regrets.std(axis=0) / np.sqrt(len(outcomes)), table[:, :, 0].mean(axis=0))


@functools.lru_cache(maxsize=64)
def _known(race: str) -> tuple[Experiment, Trainer]:
    spec = Race.from_json(race).spec()
    trainer = TabularTrainer(flops=False)
    return prepare(spec, _data(spec.dataset.name).info, trainer, "memory", f"benchmark-{spec.searcher}"), trainer


def _prepared(race: Race) -> tuple[Experiment, Trainer]:
    return _known(race.to_json())


@functools.lru_cache(maxsize=3)
def _data(name: str) -> TableDataset:
    found = datasets.load(DatasetSpec(name=name))
    assert isinstance(found, TableDataset)
    return found

"""A search in memory is the search that the scheduler would store."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from amla import datasets, registry
from amla.datasets.table import TableDataset
from amla.engine import benchmark
from amla.engine.memory import play
from amla.engine.options import spec_of
from amla.engine.prepare import prepare
from amla.engine.scheduler import Scheduler
from amla.engine.store import Store
from amla.errors import ConfigError, SpecError
from amla.spec.data import DatasetSpec
from amla.spec.experiment import Experiment
from amla.spec.trial import Trial
from amla.testing import tables
from amla.trainers.tabular.trainer import TabularTrainer

Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tables.write_csv(tmp_path_factory.mktemp("table") / "t.csv")


@pytest.fixture(scope="module")
def data(table: Path) -> TableDataset:
    found = datasets.load(DatasetSpec(name=f"table:{table}"))
    assert isinstance(found, TableDataset)
    return found


@pytest.fixture
def make(data: TableDataset, tmp_path: Path) -> Make:
    def make(**options: Any) -> Experiment:
        asked = {
            "dataset": data.spec.name,
            "trainer": "tabular",
            "searcher": "random",
            "space": "nasbench201",
            "trials": 12,
        }
        return prepare(spec_of(asked | options), data.info, TabularTrainer(), str(tmp_path / "run"), "e")

    return make


def stored(experiment: Experiment, executor: str, place: Path) -> list[Trial]:
    with Store(f"sqlite:///{place}/amla.db") as store:
        store.create(experiment)
        Scheduler(store, registry.load("executors", executor)(), experiment.id).run()
        return store.trials(experiment.id)


def plain(trials: list[Trial]) -> list[Mapping[str, Any]]:
    """But for what only a store knows, and the moment that a test takes."""
    found = [trial.model_copy(update={"handle": None}).to_data() for trial in trials]
    for trial in found:
        if trial["spec"]["purpose"] == "test":
            del trial["result"]["cost"]
    return found


@pytest.mark.parametrize(("jobs", "executor"), [(1, "inline"), (3, "simulated")])
@pytest.mark.parametrize("deterministic", [True, False])
def test_the_same_as_the_scheduler(
    make: Make, data: TableDataset, tmp_path: Path, jobs: int, executor: str, deterministic: bool
) -> None:
    experiment = make(jobs=jobs, deterministic=deterministic, executor=executor)
    assert plain(play(experiment, TabularTrainer(), data)) == plain(stored(experiment, executor, tmp_path))


def test_several_at_once_end_in_the_order_of_the_clock(make: Make, data: TableDataset) -> None:
    trials = [t for t in play(make(jobs=4), TabularTrainer(), data) if t.spec.purpose == "search"]
    order = sorted(trials, key=lambda trial: trial.finished_seq or 0)
    assert [trial.number for trial in order] != sorted(trial.number for trial in order)
    first = min(trials[:4], key=lambda trial: trial.result.cost.seconds if trial.result else 0.0)
    assert order[0] == first


def test_a_time_budget_is_counted_in_the_tables_seconds(make: Make, data: TableDataset) -> None:
    trials = play(make(time_budget=500.0, trials=1000), TabularTrainer(), data)
    seconds = [t.result.cost.seconds for t in trials if t.result and t.spec.purpose == "search"]
    assert sum(seconds[:-1]) < 500.0 <= sum(seconds)


def test_what_finds_nothing_is_an_error(make: Make, data: TableDataset) -> None:
    experiment = make()
    problem = experiment.problem.model_copy(
        update={"limits": experiment.problem.limits.model_copy(update={"max_params": 1})}
    )
    with pytest.raises(SpecError, match="max_params"):
        play(experiment.model_copy(update={"problem": problem}), TabularTrainer(), data)


# ---------------------------------------------------------------------------------------------------------------- races
def test_a_race_is_the_same_in_any_number_of_processes(table: Path) -> None:
    race = benchmark.Race(table=str(table), dataset="cifar10", searcher="random", evaluations=15)
    one, curve = benchmark.run(race, range(6))
    two, other = benchmark.run(race, range(6), processes=2)
    assert one.model_copy(update={"seconds": 0.0}) == two.model_copy(update={"seconds": 0.0})
    assert (curve.regret == other.regret).all()
    assert (one.seeds, one.evaluations_mean, len(curve.regret)) == (6, 15.0, 15)


def test_a_seed_of_a_race_by_hand(table: Path, data: TableDataset) -> None:
    race = benchmark.Race(table=str(table), dataset="cifar10", searcher="random", evaluations=20)
    found = benchmark.outcome(race, 7)
    experiment = prepare(race.spec().model_copy(update={"seed": 7}), data.info, TabularTrainer(), "nowhere", "e")
    trials = [trial for trial in play(experiment, TabularTrainer(), data) if trial.spec.purpose == "search"]
    best = max((trial.result.accuracy, -trial.number) for trial in trials if trial.result)
    chosen = trials[-best[1]]
    assert found.valid == best[0]
    assert found.test == found.incumbents[-1][1]
    assert found.incumbents[-1][0] == pytest.approx(sum(t.result.cost.seconds for t in trials if t.result))
    assert found.incumbents[-best[1]][1] == found.test
    assert chosen.result is not None


def test_regret_is_against_the_best_of_the_table(table: Path, data: TableDataset) -> None:
    race = benchmark.Race(table=str(table), dataset="cifar10", searcher="random", evaluations=5)
    row, curve = benchmark.run(race, range(4))
    tests = [100 * benchmark.outcome(race, seed).test for seed in range(4)]
    assert row.test_mean == pytest.approx(sum(tests) / 4, abs=1e-4)
    assert row.regret_mean == pytest.approx(100 * data.best_test - row.test_mean, abs=1e-3)
    assert curve.regret[-1] == pytest.approx(row.regret_mean, abs=1e-3)
    assert list(curve.seconds) == sorted(curve.seconds)


def test_no_seeds(table: Path) -> None:
    with pytest.raises(ConfigError, match="seeds: the list is empty"):
        benchmark.run(benchmark.Race(table=str(table), dataset="cifar10", searcher="random"), [])

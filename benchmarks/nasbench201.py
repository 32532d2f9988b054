"""All races of docs/results/nasbench201.md, each kept in a file once run, so that the whole can be stopped and resumed.

    python benchmarks/nasbench201.py --table nasbench201.parquet --kept DIR [--jobs 2] [--out docs/results/nasbench201]
    python benchmarks/nasbench201.py --table nasbench201.parquet --store

A race is what ``amla benchmark nasbench201`` runs, with the same seeds 0, 1, 2, ... and the same rows. With ``--out`` nothing
is run: what is kept becomes ``rows.json``, ``regret.png``, ``regret.html`` and a table in Markdown on standard output. With
``--store`` it is measured what a search takes longer with a store in SQLite than in memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amla import datasets
from amla.datasets.table import SUFFIXES, TableDataset
from amla.engine.benchmark import ALL, Curve, Race, Row, run
from amla.engine.memory import play
from amla.engine.prepare import prepare
from amla.engine.scheduler import Scheduler
from amla.engine.store import Store
from amla.executors.inline import InlineExecutor
from amla.reports.races import Ran, write_races
from amla.trainers.tabular.trainer import TabularTrainer

NAMES = ("cifar10", "cifar100", "imagenet16")
LENGTHS = (100, 200, 500)
#: Reference means over 200 seeds, by searcher and evaluations, on the three data sets; None: there is none.
REFERENCES: dict[tuple[str, int], tuple[float | None, ...]] = {
    ("random", 100): (93.73, 71.14, 44.82),
    ("random", 200): (93.89, 71.61, 45.34),
    ("random", 500): (94.01, 72.10, 45.66),
    ("evolution", 100): (93.93, 71.88, 45.49),
    ("evolution", 200): (94.11, 72.29, 45.86),
    ("evolution", 500): (94.29, 72.54, 46.24),
    ("bayes", 200): (94.21, None, None),
}
BUDGET = 20_000.0
BUDGETED = {"random": 93.87, "evolution": 94.07}


def races(table: str) -> list[tuple[Race, int]]:
    """(race, seeds), the most telling first."""
    planned: list[tuple[str, str, int, float | None, int]] = [("evolution", data, 200, None, 200) for data in NAMES]
    planned += [("bayes", "cifar10", 200, None, 50)]
    planned += [("random", data, count, None, 200) for data, count in product(NAMES, LENGTHS)]
    planned += [("evolution", data, count, None, 200) for count, data in product((100, 500), NAMES)]
    planned += [(name, "cifar10", ALL, BUDGET, 200) for name in BUDGETED]
    planned += [(name, data, 200, None, 200) for data, name in product(NAMES, ("local_search", "reinforce"))]
    planned += [("tpe", "cifar10", 200, None, 10)]
    planned += [("bayes", data, 200, None, 50) for data in NAMES[1:]]
    return [
        (Race(table=table, dataset=data, searcher=name, evaluations=count, time_budget=budget), seeds)
        for name, data, count, budget, seeds in planned
    ]


def place(kept: Path, race: Race, seeds: int) -> Path:
    length = f"{race.evaluations}" if race.time_budget is None else f"{race.time_budget:g}s"
    return kept / f"{race.searcher}-{race.dataset}-{length}-{seeds}.json"


def run_all(kept: Path, table: str, processes: int) -> None:
    for race, seeds in races(table):
        file = place(kept, race, seeds)
        if file.exists():
            continue
        row, curve = run(race, range(seeds), processes)
        content = {"row": row.to_data(), "curve": {key: value.tolist() for key, value in curve._asdict().items()}}
        file.write_text(json.dumps(content))
        print(time.strftime("%H:%M:%S"), file.stem, f"{row.test_mean:.2f} ± {row.test_std:.2f}", flush=True)


def table_of(race: Race) -> TableDataset:
    found = datasets.load(race.spec().dataset)
    assert isinstance(found, TableDataset)
    return found


def expected(data: TableDataset, draws: int) -> tuple[float, float]:
    """What random search comes to, by probability and not by trying: mean and standard deviation over seeds, in per cent.

    Its draws are uniform and independent, so the best by validation is at most v with the probability (share of cells at
    most v) to the power of their number; of several cells with the same validation each is as likely to be drawn first.
    """
    valid, test = data.known[min(SUFFIXES)][0], 100.0 * data.known[max(SUFFIXES)][1]
    _, group, sizes = np.unique(valid, return_inverse=True, return_counts=True)
    mean, square = (np.bincount(group, values) / sizes for values in (test, test**2))
    chance = np.diff((np.cumsum(sizes) / len(valid)) ** draws, prepend=0.0)
    return float(chance @ mean), float(np.sqrt(chance @ square - (chance @ mean) ** 2))


def time_store(table: str, searches: int = 4) -> None:
    """Evolution, 200 evaluations, multiply-adds counted: in memory, and with a store and the inline executor."""
    race = Race(table=table, dataset="cifar10", searcher="evolution")
    data, trainer = table_of(race), TabularTrainer()
    took = {"in memory": np.zeros(2), "with the store": np.zeros(2)}
    with tempfile.TemporaryDirectory() as folder, Store(f"sqlite:///{folder}/amla.db") as store:
        for seed in range(searches):
            spec = race.spec().model_copy(update={"seed": seed})
            experiment = prepare(spec, data.info, trainer, f"{folder}/{seed}", f"evolution-{seed}")
            began = clocks()
            count = len(play(experiment, trainer, data))
            took["in memory"] += clocks() - began
            began = clocks()
            store.create(experiment)
            Scheduler(store, InlineExecutor(), experiment.id).run()
            took["with the store"] += clocks() - began
    for how, seconds in took.items():
        clock, processor = 1e3 * seconds / searches / count
        print(f"{how}: {clock:.2f} ms a trial by the clock, {processor:.2f} ms of a processor")


def clocks() -> npt.NDArray[np.float64]:
    """Seconds by the clock, and of a processor for this process."""
    return np.array([time.perf_counter(), time.process_time()])


def report(kept: Path, table: str, out: Path) -> None:
    found = []
    for race, seeds in races(table):
        file = place(kept, race, seeds)
        if file.exists():
            content = json.loads(file.read_text())
            curve = Curve(**{key: np.array(value) for key, value in content["curve"].items()})
            found.append((race, Ran(Row.parse(content["row"]), curve)))
    found.sort(key=lambda one: (NAMES.index(one[0].dataset), one[0].searcher, one[0].evaluations))
    write_races([ran for _, ran in found], "python benchmarks/nasbench201.py", out)
    print("| data set | searcher | evaluations | seeds | test | reference | difference | exact | regret | seconds |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for race, (row, _) in found:
        reference = (
            BUDGETED[row.searcher] if race.time_budget else REFERENCES.get((row.searcher, row.evaluations), (None,) * 3)
        )
        value = reference if isinstance(reference, float) else reference[NAMES.index(row.dataset)]
        beside = f"{value} | {row.test_mean - value:+.2f}" if value else " | "
        length = f"{row.evaluations_mean:g}" + (f" ({race.time_budget:,.0f} s)" if race.time_budget else "")
        test = f"{row.test_mean:.2f} ± {row.test_std:.2f}"
        exact = f"{expected(table_of(race), row.evaluations)[0]:.2f}" if _known_exactly(race) else ""
        parts = (
            row.dataset,
            row.searcher,
            length,
            row.seeds,
            test,
            beside,
            exact,
            f"{row.regret_mean:.2f}",
            f"{row.seconds:.0f}",
        )
        print("|", " | ".join(str(part) for part in parts), "|")


def _known_exactly(race: Race) -> bool:
    return race.searcher == "random" and race.time_budget is None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True)
    parser.add_argument("--kept", type=Path, default=Path("kept"))
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    said = parser.parse_args()
    if said.store:
        time_store(said.table)
        return
    said.kept.mkdir(parents=True, exist_ok=True)
    if said.out is None:
        run_all(said.kept, said.table, said.jobs)
    else:
        report(said.kept, said.table, said.out)


if __name__ == "__main__":
    main()

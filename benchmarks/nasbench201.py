"""All races of docs/results/nasbench201.md, each kept in a file once run, so that the whole can be stopped and resumed.

    python benchmarks/nasbench201.py --table nasbench201.parquet --kept DIR [--jobs 2] [--out docs/results/nasbench201]

A race is what ``amla benchmark nasbench201`` runs, with the same seeds 0, 1, 2, ... and the same rows. With ``--out`` nothing
is run: what is kept becomes ``rows.json``, ``regret.png``, ``regret.html`` and a table in Markdown on standard output.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np

from amla.engine.benchmark import ALL, Curve, Race, Row, run
from amla.reports.races import Ran, write_races

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
    planned = [(name, data, 200, None, 200) for name, data in product(("evolution",), NAMES)]
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
    print("| data set | searcher | evaluations | seeds | test | reference | difference | regret | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for race, (row, _) in found:
        reference = (
            BUDGETED[row.searcher] if race.time_budget else REFERENCES.get((row.searcher, row.evaluations), (None,) * 3)
        )
        value = reference if isinstance(reference, float) else reference[NAMES.index(row.dataset)]
        beside = f"{value} | {row.test_mean - value:+.2f}" if value else " | "
        length = f"{row.evaluations_mean:g}" + (f" ({race.time_budget:,.0f} s)" if race.time_budget else "")
        test = f"{row.test_mean:.2f} ± {row.test_std:.2f}"
        parts = (
            row.dataset,
            row.searcher,
            length,
            row.seeds,
            test,
            beside,
            f"{row.regret_mean:.2f}",
            f"{row.seconds:.0f}",
        )
        print("|", " | ".join(str(part) for part in parts), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    said = parser.parse_args()
    said.kept.mkdir(parents=True, exist_ok=True)
    if said.out is None:
        run_all(said.kept, said.table, said.jobs)
    else:
        report(said.kept, said.table, said.out)


if __name__ == "__main__":
    main()

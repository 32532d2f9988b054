"""Construction while training against its controls: equal steps, equal parameters, one thread of one core.

    python benchmarks/construct.py --kept construct.jsonl [--data fashion-mnist] [--setting small] [--arms A,B] [--seeds 0-4]
    python benchmarks/construct.py --kept construct.jsonl --out docs/results/construct
    python benchmarks/construct.py --quick

A run is one arm and seed (``construct_arms.py`` says what arms there are); it becomes a line of the file ``--kept``, and
what is there is not run again. ``--most N`` ends after N runs, with status 3 where nothing was left to run. ``--out`` runs
nothing: it makes a table, plots and ``rows.json`` of what is kept. ``--quick`` is a small comparison and its table, in
less than 15 minutes on two cores. How settings are chosen and confirmed: ``docs/results/protocol.md``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch
from construct_arms import SETTINGS, Row, run
from construct_report import table, write_report

#: The arms of the choice, the most telling first; a control behind the arm that it controls.
ARMS = (
    "switched_off",
    "mean_square",
    "random",
    "taylor",
    "variance",
    "covariance_entropy",
    "size",
    "worst",
    "scratch:mean_square",
    "matched:mean_square",
    "envelope:mean_square",
    "deep:mean_square",
    "mean_square+afresh",
    "search:mean_square",
    "evolution:mean_square",
    "mean_square+short",
    "mean_square+share25",
    "mean_square+noscale",
    "mean_square+noskips",
    "rankings",
)
QUICK = (
    "switched_off",
    "mean_square",
    "random",
    "scratch:switched_off",
    "plain:switched_off",
    "even:plain:switched_off",
    "rankings",
)
NOTHING_LEFT = 3


def read(kept: Path) -> list[Row]:
    """The rows so far."""
    return [Row.from_json(line) for line in kept.read_text().splitlines()] if kept.exists() else []


def mend(kept: Path) -> None:
    """Cut away a line that a crash has left unfinished."""
    whole = kept.read_bytes() if kept.exists() else b""
    if whole and not whole.endswith(b"\n"):
        kept.write_bytes(whole[: whole.rfind(b"\n") + 1])


def seeds_of(text: str) -> list[int]:
    """``0-4,7`` -> 0, 1, 2, 3, 4, 7."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def missing(rows: list[Row], data: str, setting: str, arms: list[str], seeds: list[int]) -> Iterator[tuple[str, int]]:
    """Seed by seed, the arms taking turns."""
    there = {(row.arm, row.seed) for row in rows if (row.data, row.setting) == (data, setting)}
    yield from ((arm, seed) for seed, arm in product(seeds, arms) if (arm, seed) not in there)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=Path, default=Path("construct.jsonl"))
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--setting", choices=sorted(SETTINGS), default="small")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--most", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true")
    said = parser.parse_args()
    if said.out is not None:
        write_report(read(said.kept), said.out)
        return
    if said.quick:
        said.setting, said.arms, said.seeds = "quick", ",".join(QUICK), "0-1"
    mend(said.kept)
    torch.set_num_threads(1)
    setting, ran = SETTINGS[said.setting], 0
    for arm, seed in missing(read(said.kept), said.data, setting.name, said.arms.split(","), seeds_of(said.seeds)):
        if said.most is not None and ran >= said.most:
            return
        rows = [row for row in read(said.kept) if (row.data, row.setting) == (said.data, setting.name)]
        row = run(said.data, setting, arm, seed, {(row.arm, row.seed): row for row in rows})
        with said.kept.open("a") as file:
            file.write(row.to_json() + "\n")
        ran += 1
        print(
            time.strftime("%H:%M:%S"),
            f"{arm} {seed}: valid {row.valid:.4f}, test {row.test:.4f}, {row.parameters:,} parameters,",
            f"{row.steps} steps, {row.seconds:.1f} s of the processor in {row.wall_seconds:.1f}",
            flush=True,
        )
    if said.most is not None and not ran:
        raise SystemExit(NOTHING_LEFT)
    if said.quick:
        print(table([row for row in read(said.kept) if row.setting == "quick"]))


if __name__ == "__main__":
    main()

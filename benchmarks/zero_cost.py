"""How well scores at initialisation rank the cells of NAS-Bench-201: Spearman's rho with the accuracy after 200 epochs.

    python benchmarks/zero_cost.py --table nasbench201.parquet [--data parquet:cifar10] [--cells 100] [--images 64] [--seed 0]

The cells are drawn at random; each is built in the published skeleton for 32x32 images. Without ``--data`` the images are
Gaussian noise. ``az_nas`` is the sum of the logarithms of the ranks in AZ-NAS' four scores.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from pyarrow import parquet
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from amla import datasets
from amla.spaces.nasbench201 import from_arch_str
from amla.spec.data import DatasetSpec
from amla.spec.lower import lower
from amla.spec.procedures import SCORES
from amla.spec.training import Augmentation
from amla.trainers.torch.data import Batches
from amla.trainers.torch.score import scored

AZ_NAS = ("expressivity", "progressivity", "trainability", "flops")


def images_of(name: str | None, count: int, seed: int) -> Tensor:
    """(count, 3, 32, 32), normalised."""
    if name is None:
        return torch.randn((count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    batches = Batches(datasets.load(DatasetSpec(name=name)), count, Augmentation(), seed, torch.device("cpu"))
    return next(batches(0))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True)
    parser.add_argument("--accuracy", default="cifar10_test")
    parser.add_argument("--data")
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    table = parquet.read_table(asked.table, columns=["arch_str", asked.accuracy]).to_pydict()
    rows = np.random.default_rng(asked.seed).choice(len(table["arch_str"]), asked.cells, replace=False)
    images = images_of(asked.data, asked.images, asked.seed)
    found: dict[str, list[float]] = {name: [] for name in SCORES}
    began = time.perf_counter()
    for row in rows:
        architecture = from_arch_str(table["arch_str"][row])
        graph = lower(architecture, (3, 32, 32), 10).inference()
        for name, value in scored(architecture, graph, images, SCORES, asked.seed).items():
            found[name].append(value)
    seconds = time.perf_counter() - began
    found["az_nas"] = list(sum(np.log(rankdata(found[name]) / len(rows)) for name in AZ_NAS))
    accuracy = [table[asked.accuracy][row] for row in rows]
    print(f"{len(rows)} cells, {asked.images} images of {asked.data or 'noise'}, {seconds / len(rows):.2f} s a cell")
    for name, values in found.items():
        finite = [value if math.isfinite(value) else -1e300 for value in values]
        best = max(range(len(rows)), key=lambda index: finite[index])
        print(f"{name:>14} {spearmanr(finite, accuracy).statistic:+.2f}   its best: {accuracy[best]:.2f}")
    print(f"{'the best':>14}         {max(accuracy):.2f}")


if __name__ == "__main__":
    main()

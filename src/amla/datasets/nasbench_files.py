"""The files of NAS-Bench-201 (arXiv 2001.00326) and NATS-Bench (arXiv 2009.00437) as their authors give them out, brought
to the columns of ``amla.datasets.table``.

Three forms: the folder ``NATS-tss-v1_0-*-simple`` (``000000.pickle.pbz2``, ... a file a cell), the same in one file
(``NATS-tss-v1_0-*.pickle.pbz2``), and ``NAS-Bench-201-v1_*.pth``. A cell has a training of 12 epochs (``12``, in the older
file ``less``) and one of 200 (``200``, ``full``), each a few times over, with its data set and its seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ValidationError

from amla.datasets.plain_pickle import read_pickle
from amla.datasets.table import KEY, SUFFIXES
from amla.errors import DataError, SpecError
from amla.spaces.nasbench201 import operations_of

#: Epochs of a training -> what the files call it.
CALLED = {12: ("12", "less"), 200: ("200", "full")}
#: Our column -> (data set, split) of theirs. On CIFAR-10 the validation is that of a training on half of the training
#: images, the test that of one on all of them: so it was published.
ACCURACIES = {
    "cifar10_valid": ("cifar10-valid", "x-valid"),
    "cifar10_test": ("cifar10", "ori-test"),
    "cifar100_valid": ("cifar100", "x-valid"),
    "cifar100_test": ("cifar100", "x-test"),
    "imagenet16_valid": ("ImageNet16-120", "x-valid"),
    "imagenet16_test": ("ImageNet16-120", "x-test"),
}
#: Our data set -> theirs whose seconds of training count: a search trains on what it validates.
TIMED = {"cifar10": "cifar10-valid", "cifar100": "cifar100", "imagenet16": "ImageNet16-120"}

Row = dict[str, float | str]


class Run(BaseModel):
    """One training. ``eval_acc1es``: per cent by ``SPLIT@EPOCH`` (from 0 on); ``train_times``: seconds by epoch; ``params``:
    millions."""

    epochs: int
    params: float
    eval_acc1es: dict[str, float]
    train_times: dict[int, float] | None = None


class Cell(BaseModel):
    """All trainings of a cell of one length, by data set and seed."""

    arch_str: str
    all_results: dict[tuple[str, int | str], Run]

    def runs(self, name: str) -> list[Run]:
        return [run for (data, _), run in self.all_results.items() if data == name]


def official_rows(path: Path) -> Iterator[Row]:
    """A row of the table for every cell in the files: means over the seeds. Errors: ``DataError``."""
    for place, trainings in _cells(path):
        try:
            yield _row(trainings)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{place}: {where}: {first['msg']}") from None
        except (SpecError, ValueError) as error:
            raise DataError(f"{place}: {error}") from None


def _cells(path: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, its trainings by length)."""
    if path.is_dir():
        files = sorted(path.glob("[0-9]*.pickle.pbz2"))
        if not files:
            raise DataError(f"{path}: no files such as 000000.pickle.pbz2; give the folder NATS-tss-v1_0-...-simple")
        for file in files:
            yield str(file), read_pickle(file)
        return
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    content = read_pickle(path)
    if not isinstance(content, dict) or not isinstance(content.get("arch2infos"), dict):
        raise DataError(f"{path}: no 'arch2infos' in it; is it a file of NATS-Bench (topology) or NAS-Bench-201?")
    for index, trainings in content["arch2infos"].items():
        yield f"{path}, cell {index}", trainings


def _row(trainings: Any) -> Row:
    cells = {epochs: _cell(trainings, epochs) for epochs in CALLED}
    texts = {cell.arch_str for cell in cells.values()}
    if len(texts) > 1:
        raise ValueError(f"its trainings are of different cells, {' and '.join(sorted(texts))}")
    operations_of(next(iter(texts)))
    row: Row = {KEY: texts.pop()}
    for epochs, cell in cells.items():
        for column, (data, split) in ACCURACIES.items():
            row[column + SUFFIXES[epochs]] = fmean(_accuracy(run, split) for run in _runs(cell, data, epochs))
    short, long = cells[min(CALLED)], cells[max(CALLED)]
    row["cifar10_cost12_s"] = _seconds(short, TIMED["cifar10"], min(CALLED))
    row["params_m"] = fmean(run.params for run in _runs(long, TIMED["cifar10"], max(CALLED)))
    for ours, theirs in TIMED.items():
        row[f"train_time_{max(CALLED)}ep_{ours}_s"] = _seconds(long, theirs, max(CALLED))
    return row


def _cell(trainings: Any, epochs: int) -> Cell:
    said = trainings if isinstance(trainings, Mapping) else {}
    found = next((said[key] for key in CALLED[epochs] if key in said), None)
    if found is None:
        raise ValueError(f"no training of {epochs} epochs")
    return Cell.model_validate(found)


def _runs(cell: Cell, name: str, epochs: int) -> list[Run]:
    runs = cell.runs(name)
    if not runs or any(run.epochs != epochs for run in runs):
        raise ValueError(f"no training of {epochs} epochs on {name}")
    return runs


def _accuracy(run: Run, split: str) -> float:
    """After the last epoch, in per cent."""
    key = f"{split}@{run.epochs - 1}"
    if key not in run.eval_acc1es:
        raise ValueError(f"no accuracy {key}")
    return run.eval_acc1es[key]


def _seconds(cell: Cell, name: str, epochs: int) -> float:
    """Of training, without the validation."""
    runs = _runs(cell, name, epochs)
    if any(not run.train_times for run in runs):
        raise ValueError(f"no seconds of training on {name}")
    return fmean(sum((run.train_times or {}).values()) for run in runs)

"""``table:FILE#cifar100``: a benchmark's table of results in the place of images, for the trainer that looks networks up.

The columns are those of NAS-Bench-201 (arXiv 2001.00326): ``arch_str``; for each of its data sets the accuracies in percent
after 200 epochs (``cifar10_valid``, ``cifar10_test``) and after 12 (``cifar10_valid_12ep``); ``params_m``, millions of
parameters; and seconds, of 12 epochs (``cifar10_cost12_s``) or of 200 (``train_time_200ep_cifar10_s``).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from amla import artifacts, registry
from amla.datasets.base import Dataset, Images, Labels
from amla.errors import DataError, PluginError, SpecError
from amla.spaces.nasbench201 import EDGES, OPERATIONS, operations_of
from amla.spec.data import DatasetInfo, DatasetSpec, Split

KEY = "arch_str"
#: Epochs of a training that stands in the table -> what its columns end in.
SUFFIXES = {12: "_12ep", 200: ""}

Column = npt.NDArray[np.float64]


class Measures(NamedTuple):
    """A data set of the benchmark: image side in pixels, classes, and images of each split (section 2.2)."""

    side: int
    classes: int
    sizes: dict[Split, int]


BENCHMARKED = {
    "cifar10": Measures(32, 10, {"train": 25_000, "valid": 25_000, "test": 10_000}),
    "cifar100": Measures(32, 100, {"train": 50_000, "valid": 5_000, "test": 5_000}),
    "imagenet16": Measures(16, 120, {"train": 151_700, "valid": 3_000, "test": 3_000}),
}


class Entry(NamedTuple):
    """What the table knows of one training: accuracies in [0, 1], simulated seconds, parameters."""

    valid: float
    test: float
    seconds: float
    parameters: int


class TableDataset(Dataset):
    """One data set of a table; there are no pixels in it. Errors: ``DataError`` where the table is not whole."""

    has_images: ClassVar[bool] = False

    def __init__(self, spec: DatasetSpec) -> None:
        super().__init__(spec)
        path, self.benchmarked = _parts(spec)
        self.table = read_table(path)
        self.known = {epochs: self._measured(epochs) for epochs in SUFFIXES}

    @cached_property
    def info(self) -> DatasetInfo:
        side, classes, sizes = BENCHMARKED[self.benchmarked]
        names = tuple(str(number) for number in range(classes))
        shape = (side, side, 3)
        return DatasetInfo(
            name=self.benchmarked, shape=shape, classes=names, sizes=sizes, mean=(0.5,) * 3, std=(0.25,) * 3
        )

    def entry(self, arch_str: str, epochs: int) -> Entry:
        """A training of ``epochs`` (a key of ``SUFFIXES``) of the cell that the benchmark writes so."""
        row = self.table.rows[arch_str]
        valid, test, seconds, parameters = (column[row] for column in self.known[epochs])
        return Entry(float(valid), float(test), float(seconds), round(float(parameters)))

    @cached_property
    def best_test(self) -> float:
        """The highest test accuracy after the longest training, in [0, 1]."""
        return float(self.known[max(SUFFIXES)][1].max())

    def arrays(self, split: Split) -> tuple[Images, Labels]:  # noqa: ARG002  # the contract's names
        self._no_images()

    def batches(self, split: Split, size: int, *, seed: int | None = None) -> Iterator[tuple[Images, Labels]]:  # noqa: ARG002
        self._no_images()

    def _no_images(self) -> NoReturn:
        raise DataError(f"{self.spec.name}: a table of results has no images; it goes with --trainer tabular")

    def _measured(self, epochs: int) -> tuple[Column, Column, Column, Column]:
        name, suffix = self.benchmarked, SUFFIXES[epochs]
        valid, test = (self.table.accuracy(f"{name}_{split}{suffix}") for split in ("valid", "test"))
        return valid, test, self._seconds(epochs), self.table.column("params_m") * 1e6

    def _seconds(self, epochs: int) -> Column:
        """Measured ones, else those of another length in proportion, else those of the benchmark's first data set."""
        short, long = min(SUFFIXES), max(SUFFIXES)
        by_length = {short: f"{self.benchmarked}_cost12_s", long: f"train_time_200ep_{self.benchmarked}_s"}
        for length in (epochs, *by_length):
            if by_length[length] in self.table.columns:
                return self.table.column(by_length[length]) * (epochs / length)
        return self.table.column("cifar10_cost12_s") * (epochs / short)


@dataclass(frozen=True)
class Table:
    """A table with all cells of the space: ``rows`` maps a cell to its place in every column."""

    path: Path
    rows: Mapping[str, int]
    columns: Mapping[str, Column]

    def column(self, name: str) -> Column:
        """Errors: ``DataError`` where it is missing, or a number in it is."""
        if name not in self.columns:
            raise DataError(f"{self.path}: the column {name!r} is missing; there are {', '.join(sorted(self.columns))}")
        values = self.columns[name]
        if not np.isfinite(values).all():
            cell = list(self.rows)[int(np.flatnonzero(~np.isfinite(values))[0])]
            raise DataError(f"{self.path}: the column {name!r} has no number for the cell {cell}")
        return values

    def accuracy(self, name: str) -> Column:
        """A column of per cent, as shares. Errors: ``DataError`` where it is none."""
        values = self.column(name)
        if values.min() < 0.0 or values.max() > 100.0:
            raise DataError(f"{self.path}: the column {name!r} should be per cent, and has numbers outside 0..100")
        return values / 100.0


def read_table(path: Path) -> Table:
    """A table in Parquet or CSV, checked to have every cell once. Errors: ``DataError``, ``PluginError``."""
    keys, columns = _reader(path)(path)
    return Table(path, _places(path, keys), columns)


def write_table(source: Path, rows: Iterable[Mapping[str, float | str]], out: Path) -> int:
    """Write rows that have all cells, in Parquet or CSV; returns how many. ``source``: where they are from, for errors.

    Errors: ``DataError`` where they are not the whole table, or the name ends otherwise; ``PluginError``.
    """
    writer = _by_suffix(out, {".parquet": _to_parquet, ".csv": _to_csv})
    whole = list(rows)
    _places(source, [str(row[KEY]) for row in whole])
    artifacts.write(str(out.absolute().parent), out.name, writer(whole))
    return len(whole)


def _places(path: Path, keys: Sequence[str]) -> dict[str, int]:
    """The row of every cell. Errors: ``DataError`` where one is unknown, missing, or there twice."""
    rows: dict[str, int] = {}
    for row, key in enumerate(keys):
        try:
            operations_of(key)
        except SpecError as error:
            raise DataError(f"{path}, row {row + 1}: {error}") from None
        if key in rows:
            raise DataError(f"{path}, row {row + 1}: the cell {key} is there twice")
        rows[key] = row
    every = len(OPERATIONS) ** len(EDGES)
    if len(rows) < every:
        there = {operations_of(key) for key in rows}
        first = next(cell for cell in product(OPERATIONS, repeat=len(EDGES)) if cell not in there)
        raise DataError(
            f"{path}: {every - len(rows):,} of the {every:,} cells are missing, the first with the operations "
            f"{', '.join(first)}; get the whole table"
        )
    return rows


def _parts(spec: DatasetSpec) -> tuple[Path, str]:
    """(file, data set) of ``table:FILE#DATASET``; the first data set where none is said."""
    known = ", ".join(BENCHMARKED)
    if not spec.argument:
        raise DataError(f"{spec.name}: which table? write table:FILE#DATASET, DATASET being one of {known}")
    file, sign, name = spec.argument.rpartition("#")
    if not sign:
        file, name = spec.argument, next(iter(BENCHMARKED))
    if name not in BENCHMARKED:
        raise DataError(f"{spec.name}: no data set of the table is called {name!r}; there are {known}")
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"{path}: no such file; table:FILE#DATASET needs a table in Parquet or CSV")
    return path, name


Read = tuple[list[str], dict[str, Column]]
Made = TypeVar("Made")


def _reader(path: Path) -> Callable[[Path], Read]:
    return _by_suffix(path, {".parquet": _parquet, ".csv": _csv})


def _by_suffix(path: Path, known: Mapping[str, Made]) -> Made:
    found = known.get(path.suffix.lower())
    if found is None:
        raise DataError(f"{path}: a table ends in {' or '.join(known)}")
    return found


def _arrow() -> tuple[Any, Any]:
    """(pyarrow, pyarrow.parquet). Errors: ``PluginError`` where they are missing."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise PluginError(registry.missing("pyarrow", "a table in Parquet")) from error
    return pyarrow, parquet


def _parquet(path: Path) -> Read:
    pyarrow, parquet = _arrow()
    try:
        read = parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None
    columns = {name: read.column(name) for name in read.column_names}
    if KEY not in columns:
        raise DataError(f"{path}: the column {KEY!r} is missing")
    kinds = pyarrow.types
    numbers = {
        name: np.asarray(column.to_numpy(), np.float64)
        for name, column in columns.items()
        if kinds.is_integer(column.type) or kinds.is_floating(column.type)
    }
    return [str(key) for key in columns[KEY].to_pylist()], numbers


def _to_parquet(rows: Sequence[Mapping[str, float | str]]) -> bytes:
    pyarrow, parquet = _arrow()
    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), content)
    return content.getvalue()


def _to_csv(rows: Sequence[Mapping[str, float | str]]) -> bytes:
    content = io.StringIO(newline="")
    writer = csv.DictWriter(content, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return content.getvalue().encode()


def _csv(path: Path) -> Read:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            lines = list(csv.DictReader(file, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not a CSV file: {error}") from None
    if not lines or KEY not in lines[0]:
        raise DataError(f"{path}: the column {KEY!r} is missing, or there are no rows")
    numbers = {name: np.array([_number(line[name]) for line in lines]) for name in lines[0] if name not in (None, KEY)}
    return [line[KEY] for line in lines], numbers


def _number(text: str | None) -> float:
    """NaN where that is no number: whoever needs the column says so."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")

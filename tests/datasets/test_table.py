"""A table of results: read whole and checked, or refused in one line."""

import csv
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from amla.datasets import load
from amla.datasets.table import TableDataset
from amla.errors import DataError
from amla.spec.data import DatasetSpec
from amla.testing import tables

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


@pytest.fixture(scope="module")
def rows() -> list[tables.Row]:
    return list(tables.rows())


def opened(path: Path, name: str = "") -> TableDataset:
    found = load(DatasetSpec(name=f"table:{path}{name}"))
    assert isinstance(found, TableDataset)
    return found


def written(path: Path, rows: list[tables.Row]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_it_says_what_stands_in_it(tmp_path: Path, rows: list[tables.Row], suffix: str) -> None:
    row = next(row for row in rows if row["arch_str"] == CELL)
    data = opened(written(tmp_path / f"t.{suffix}", rows), "#cifar100")
    short, long = data.entry(CELL, 12), data.entry(CELL, 200)
    assert short.valid == pytest.approx(float(row["cifar100_valid_12ep"]) / 100)
    assert long.test == pytest.approx(float(row["cifar100_test"]) / 100)
    assert short.seconds == pytest.approx(float(row["cifar10_cost12_s"]))  # the table has none of its own
    assert long.seconds == pytest.approx(short.seconds * 200 / 12)
    assert long.parameters == round(1e6 * float(row["params_m"]))
    assert data.best_test == pytest.approx(max(float(row["cifar100_test"]) for row in rows) / 100)
    assert data.info.num_classes == 100


def test_seconds_of_its_own_come_first(tmp_path: Path, rows: list[tables.Row]) -> None:
    more = [row | {"train_time_200ep_imagenet16_s": 1000.0} for row in rows]
    data = opened(written(tmp_path / "t.csv", more), "#imagenet16")
    assert data.entry(CELL, 200).seconds == 1000.0
    assert data.entry(CELL, 12).seconds == pytest.approx(60.0)


def test_there_are_no_images(tmp_path: Path, rows: list[tables.Row]) -> None:
    data = opened(written(tmp_path / "t.csv", rows))
    with pytest.raises(DataError, match="--trainer tabular"):
        data.arrays("train")
    with pytest.raises(DataError, match="--trainer tabular"):
        data.batches("train", 2)


def without(rows: list[tables.Row], column: str) -> list[tables.Row]:
    return [{key: value for key, value in row.items() if key != column} for row in rows]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: without(rows, "cifar10_valid_12ep"), "the column 'cifar10_valid_12ep' is missing"),
        (lambda rows: without(rows, "cifar10_cost12_s"), "the column 'cifar10_cost12_s' is missing"),
        (lambda rows: without(rows, "arch_str"), "the column 'arch_str' is missing"),
        (lambda rows: rows[3:], "3 of the 15,625 cells are missing, the first with the operations zero"),
        (lambda rows: [*rows, rows[5]], "is there twice"),
        (lambda rows: [rows[0] | {"arch_str": CELL.replace("none", "conv_9x9")}, *rows[1:]], "row 1: .*conv_9x9"),
        (
            lambda rows: [rows[0] | {"cifar10_test": float("nan")}, *rows[1:]],
            "'cifar10_test' has no number for the cell",
        ),
        (lambda rows: [rows[0] | {"cifar10_test": 101.0}, *rows[1:]], "outside 0..100"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_wrong_with_it_is_said(tmp_path: Path, rows: list[tables.Row], suffix: str, spoil, said: str) -> None:
    path = written(tmp_path / f"t.{suffix}", spoil(rows))
    with pytest.raises(DataError, match=said) as caught:
        opened(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("table", None, "which table"),
        ("table:nowhere.csv", None, "no such file"),
        ("table:t.csv#mnist", b"", "'mnist'; there are cifar10, cifar100, imagenet16"),
        ("table:t.txt", b"", "ends in .parquet or .csv"),
        ("table:t.csv", b"", "there are no rows"),
        ("table:t.csv", b"\xff\xfe\x00", "not a CSV file"),
        ("table:t.parquet", b"PAR?", "not a Parquet file"),
    ],
)
def test_no_table_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name.removeprefix("table:").split("#")[0]).write_bytes(content)
    with pytest.raises(DataError, match=said):
        load(DatasetSpec(name=name))


def test_text_where_a_number_should_be(tmp_path: Path, rows: list[tables.Row]) -> None:
    path = written(tmp_path / "t.csv", [rows[0] | {"cifar10_valid": "high"}, *rows[1:]])
    with pytest.raises(DataError, match="'cifar10_valid' has no number"):
        opened(path)
    assert np.isfinite(opened(path, "#cifar100").best_test)

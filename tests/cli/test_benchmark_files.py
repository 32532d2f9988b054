"""``amla benchmark convert``: files in the form of NATS-Bench's and NAS-Bench-201's own, written here as their authors write
them, become the table; a hostile one becomes one line."""

import bz2
import collections
import io
import json
import os
import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch

from amla.datasets.nasbench_files import ACCURACIES, CALLED, official_rows
from amla.datasets.table import SUFFIXES, read_table
from amla.errors import DataError
from amla.testing import tables

CONVERT = ("benchmark", "convert")
SEEDS = {12: (777,), 200: (777, 888, 999)}
SETS = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")
#: Data sets of the benchmark, how much longer than on the first an epoch takes on them.
LONGER = {"cifar10-valid": 1.0, "cifar10": 2.0, "cifar100": 2.0, "ImageNet16-120": 6.0}
ROWS = [dict(row) for row in islice(tables.rows(), 3000, 3003)]
#: What seeds differ by, in points; nothing on average.
SPREAD = (0.0, 0.25, -0.25)


def a_run(row: tables.Row, name: str, epochs: int, seed: int, number: Callable[[float], Any]) -> dict[str, Any]:
    """The state of the authors' ``ResultsCount``."""
    luck = SPREAD[SEEDS[epochs].index(seed)]
    last = {
        f"{split}@{epochs - 1}": number(float(row[column + SUFFIXES[epochs]]) + luck)
        for column, (data, split) in ACCURACIES.items()
        if data == name
    }
    last[f"ori-test@{epochs - 1}"] = last.get(f"ori-test@{epochs - 1}", number(1.0))
    first = {key.replace(f"@{epochs - 1}", "@0"): number(10.0) for key in last}
    second = float(row["cifar10_cost12_s"]) / 12 * LONGER[name]
    return {
        "name": "infer.tiny",
        "net_state_dict": None,
        "train_acc1es": dict.fromkeys(range(epochs), 50.0),
        "train_acc5es": None,
        "train_losses": dict.fromkeys(range(epochs), 1.0),
        "train_times": collections.OrderedDict((epoch, number(second)) for epoch in range(epochs)),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": row["arch_str"], "class_num": 10},
        "params": number(float(row["params_m"])),
        "flop": 1.0,
        "seed": seed,
        "epochs": epochs,
        "latency": [0.01],
        "eval_names": sorted({key.partition("@")[0] for key in last}),
        "eval_acc1es": first | last,
        "eval_times": {f"{key.partition('@')[0]}@{epoch}": 1.0 for key in last for epoch in range(epochs)},
        "eval_losses": dict.fromkeys(first | last, 0.5),
    }


def a_cell(row: tables.Row, names: dict[int, str], number: Callable[[float], Any] = float) -> dict[str, Any]:
    """Both trainings of a cell, each the state of the authors' ``ArchResults``."""
    return collections.OrderedDict(
        (
            names[epochs],
            {
                "arch_index": 7,
                "arch_str": row["arch_str"],
                "all_results": {
                    (name, seed): a_run(row, name, epochs, seed, number) for name in SETS for seed in seeds
                },
                "dataset_seed": {name: list(seeds) for name in SETS},
                "clear_net_done": True,
            },
        )
        for epochs, seeds in SEEDS.items()
    )


NATS, OLDER = ({epochs: called[place] for epochs, called in CALLED.items()} for place in (0, 1))


def archive(cells: list[dict[str, Any]], rows: list[tables.Row]) -> dict[str, Any]:
    names = [row["arch_str"] for row in rows]
    return {"meta_archs": names, "arch2infos": dict(enumerate(cells)), "evaluated_indexes": set(range(len(cells)))}


def compressed(path: Path, content: Any) -> Path:
    with bz2.open(path, "wb", compresslevel=1) as file:
        pickle.dump(content, file, protocol=4)
    return path


def as_folder(place: Path) -> Path:
    folder = place / "NATS-tss-v1_0-3ffb9-simple"
    folder.mkdir()
    compressed(folder / "meta.pickle.pbz2", archive([], ROWS))
    for index, row in enumerate(ROWS):
        compressed(folder / f"{index:06d}.pickle.pbz2", a_cell(row, NATS))
    return folder


def as_one_file(place: Path) -> Path:
    cells = [a_cell(row, NATS, np.float64) for row in ROWS]
    return compressed(place / "NATS-tss-v1_0-3ffb9.pickle.pbz2", archive(cells, ROWS))


def as_torch(place: Path, *, zipped: bool) -> Path:
    path = place / "NAS-Bench-201-v1_1-096897.pth"
    cells = [a_cell(row, OLDER, np.float64) for row in ROWS]
    torch.save(archive(cells, ROWS), path, _use_new_zipfile_serialization=zipped)
    return path


FORMS = {
    "folder": as_folder,
    "one file": as_one_file,
    "torch": lambda place: as_torch(place, zipped=False),
    "torch, zipped": lambda place: as_torch(place, zipped=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_means_over_the_seeds(tmp_path: Path, form: str) -> None:
    found = list(official_rows(FORMS[form](tmp_path)))
    assert [row["arch_str"] for row in found] == [row["arch_str"] for row in ROWS]
    for row, expected in zip(found, ROWS, strict=True):
        numbers = {name: value for name, value in expected.items() if name != "arch_str"}
        assert {name: row[name] for name in numbers} == pytest.approx(numbers)
        assert row["train_time_200ep_imagenet16_s"] == pytest.approx(6 * 200 / 12 * float(row["cifar10_cost12_s"]))
        assert all(type(value) is float for name, value in row.items() if name != "arch_str")


def test_the_seeds_do_differ() -> None:
    """So that a mean is not what any of them says."""
    runs = a_cell(ROWS[0], NATS)["200"]["all_results"]
    values = [run["eval_acc1es"]["ori-test@199"] for (name, _), run in runs.items() if name == "cifar10"]
    assert len(set(values)) == 3
    assert fmean(values) == pytest.approx(ROWS[0]["cifar10_test"])


@pytest.mark.slow  # 15,625 cells, twice a pickle
def test_the_whole_table(amla, tmp_path) -> None:
    """From the files to a race. To be quick, a training's epochs but the last are left out."""
    rows = list(tables.rows())
    cells = []
    for row in rows:
        cell = {
            called: {"arch_str": row["arch_str"], "all_results": {(name, 777): {} for name in SETS}}
            for called in NATS.values()
        }
        for epochs, called in NATS.items():
            for name in SETS:
                run = {"epochs": epochs, "params": row["params_m"], "train_times": {0: row["cifar10_cost12_s"]}}
                run["eval_acc1es"] = {
                    f"{split}@{epochs - 1}": row[column + SUFFIXES[epochs]]
                    for column, (data, split) in ACCURACIES.items()
                    if data == name
                }
                cell[called]["all_results"][(name, 777)] = run
        cells.append(cell)
    source = compressed(tmp_path / "all.pickle.pbz2", archive(cells, rows))
    done = amla(*CONVERT, source.name, "--out", "t.parquet", "--json")
    assert json.loads(done.stdout) == {"table": "t.parquet", "rows": 15_625}
    made, expected = read_table(tmp_path / "t.parquet"), read_table(tables.write_csv(tmp_path / "t.csv"))
    assert made.rows == expected.rows
    for name, column in expected.columns.items():
        assert np.allclose(made.columns[name], column)
    words = ("--dataset", "cifar100", "--searchers", "random", "--seeds", 2, "--evaluations", 5, "--jobs", 1)
    assert "random" in amla("benchmark", "nasbench201", "--table", "t.parquet", *words).stdout


# ----------------------------------------------------------------------------------------------------------------- bad input
class Hostile:
    """What runs a command in a reader that trusts it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_a_file_that_would_run_a_command(complaint, tmp_path) -> None:
    trap = Hostile(f"touch {tmp_path / 'ran'}")
    folder = tmp_path / "NATS-tss-v1_0-3ffb9-simple"
    folder.mkdir()
    compressed(folder / "000000.pickle.pbz2", a_cell(ROWS[0], NATS) | {"200": trap})
    line = complaint(*CONVERT, folder.name, "--out", "t.csv")
    assert "000000.pickle.pbz2: it asks for posix.system" in line
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_file_of_torch(complaint, tmp_path, zipped) -> None:
    torch.save({"arch2infos": Hostile("touch ran")}, tmp_path / "t.pth", _use_new_zipfile_serialization=zipped)
    assert "it asks for posix.system" in complaint(*CONVERT, "t.pth", "--out", "t.csv")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",  # protocol 0
        b"(S'touch ran'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x09touch ran\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cf2py.os.open\x93.",  # a dotted name
        b"\x80\x04\x82\x01.",  # a name of the extension registry
    ],
)
def test_no_way_of_naming_a_function_works(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "t.pth"
    path.write_bytes(program)
    with pytest.raises(DataError):
        list(official_rows(path))
    assert not Path("ran").exists()


def test_a_tensor(tmp_path: Path) -> None:
    torch.save({"arch2infos": torch.zeros(2)}, tmp_path / "t.pth")
    with pytest.raises(DataError, match=r"asks for (torch|a tensor)"):
        list(official_rows(tmp_path / "t.pth"))


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    content = io.BytesIO()
    pickle.dump(archive([a_cell(ROWS[0], NATS, np.float64)], ROWS), content, protocol=4)
    whole = content.getvalue()
    for end in np.linspace(0, len(whole) - 1, 60).astype(int):
        (tmp_path / "t.pickle").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"t\.pickle"):
            list(official_rows(tmp_path / "t.pickle"))


def without_a_seed(cell: dict[str, Any]) -> None:
    runs = cell["12"]["all_results"]
    del runs["cifar100", 777]


def of_another_length(cell: dict[str, Any]) -> None:
    cell["200"] = cell["12"]


def without_an_accuracy(cell: dict[str, Any]) -> None:
    del cell["200"]["all_results"]["cifar100", 888]["eval_acc1es"]["x-valid@199"]


def with_words_for_numbers(cell: dict[str, Any]) -> None:
    cell["12"]["all_results"]["cifar10", 777]["params"] = "many"


def without_seconds(cell: dict[str, Any]) -> None:
    cell["12"]["all_results"]["cifar10-valid", 777]["train_times"] = None


def of_another_space(cell: dict[str, Any]) -> None:
    for results in cell.values():
        results["arch_str"] = "|conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def of_two_cells(cell: dict[str, Any]) -> None:
    cell["12"]["arch_str"] = ROWS[1]["arch_str"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_a_seed, "no training of 12 epochs on cifar100"),
        (of_another_length, "no training of 200 epochs on"),
        (without_an_accuracy, "no accuracy x-valid@199"),
        (with_words_for_numbers, "params"),
        (without_seconds, "no seconds of training on cifar10-valid"),
        (of_another_space, "conv_9x9"),
        (of_two_cells, "different cells"),
        (collections.OrderedDict.clear, "no training of 12 epochs"),
    ],
)
def test_results_that_are_not_all_there(tmp_path: Path, spoil: Callable[[Any], None], said: str) -> None:
    cell = a_cell(ROWS[0], NATS)
    spoil(cell)
    compressed(tmp_path / "000011.pickle.pbz2", cell)
    with pytest.raises(DataError, match="000011") as caught:
        list(official_rows(tmp_path))
    assert said in str(caught.value)


def test_files_that_lack_cells(complaint, tmp_path) -> None:
    line = complaint(*CONVERT, as_folder(tmp_path).name, "--out", "t.csv")
    assert "15,622 of the 15,625 cells are missing" in line
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.pth", "no such file"), (".", "000000.pickle.pbz2"), ("other.pickle", "no 'arch2infos'")],
)
def test_other_files(complaint, tmp_path, name, said) -> None:
    (tmp_path / "other.pickle").write_bytes(pickle.dumps({"weights": [1, 2]}))
    assert said in complaint(*CONVERT, name)


def test_a_table_of_an_unknown_form_is_refused_before_anything_is_read(complaint, tmp_path) -> None:
    assert "t.json: a table ends in" in complaint(*CONVERT, as_folder(tmp_path).name, "--out", "t.json")

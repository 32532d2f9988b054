"""Searches on a table, as a user types them: the benchmark, and the ordinary search with its store."""

import base64
import json
from pathlib import Path

import pytest

from amla.spaces.nasbench201 import from_arch_str
from amla.testing import tables

ON_TABLE = ("--trainer", "tabular", "--space", "nasbench201", "--searcher", "random")
BENCHMARK = ("benchmark", "nasbench201", "--jobs", 1)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tables.write_csv(tmp_path_factory.mktemp("table") / "t.csv")


def test_a_benchmark(amla, table, tmp_path) -> None:
    words = ("--table", table, "--dataset", "cifar10,imagenet16", "--searchers", "random", "--seeds", 3)
    done = amla(*BENCHMARK, *words, "--evaluations", "4,9", "--out", "plots", "--json")
    document = json.loads(done.stdout)
    assert [(row["dataset"], row["searcher"], row["evaluations"], row["seeds"]) for row in document["rows"]] == [
        (dataset, "random", count, 3) for dataset in ("cifar10", "imagenet16") for count in (4, 9)
    ]
    for row in document["rows"]:
        assert 0.0 < row["test_mean"] < 100.0
        assert row["regret_mean"] >= 0.0
        assert row["test_std"] >= 0.0
        assert row["seconds"] > 0.0
    assert json.loads((tmp_path / "plots" / "rows.json").read_text())["rows"] == document["rows"]
    picture = (tmp_path / "plots" / "regret.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    page = (tmp_path / "plots" / "regret.html").read_text()
    assert base64.b64encode(picture).decode() in page
    assert "amla benchmark nasbench201" in page
    assert "http" not in page


def test_a_benchmark_for_people(amla, table) -> None:
    words = ("--table", table, "--dataset", "cifar10", "--searchers", "random", "--seeds", "3,5")
    done = amla(*BENCHMARK, *words, "--time-budget", "900s", "--workers", 2, "--set", "random.draws=7")
    assert "random" in done.stdout
    assert "regret.png" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seeds", 0), "--seeds: the list is empty"),
        (("--seeds", ""), "--seeds: the list is empty"),
        (("--seeds", "1,x"), "'x'"),
        (("--evaluations", 0), "--evaluations: '0'"),
        (("--searchers", "luck"), "luck"),
        (("--searchers", ","), "--searchers: the list is empty"),
        (("--searchers", "nac"), "nac"),
        (("--dataset", "mnist"), "mnist"),
        (("--time-budget", "soon"), "soon"),
        (("--set", "evolution.population=3"), "evolution"),
        (("--set", "random.luck=3"), "luck"),
        (("--table", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_a_benchmark_that_cannot_be(complaint, table, words, said) -> None:
    given = {"--table": table, "--seeds": 2, "--evaluations": 2, "--dataset": "cifar10", "--searchers": "random"}
    given |= dict([words])
    line = complaint(*BENCHMARK, *(word for pair in given.items() for word in pair))
    assert said in line


@pytest.mark.parametrize(
    ("searcher", "said"),
    [
        ("zero_cost", "the trainer 'tabular' has no score, which the searcher 'zero_cost' needs; 'torch' has"),
        ("darts", "the trainer 'tabular' has no darts"),
        ("enas", "the trainer 'tabular' has no enas"),
        ("successive_halving", "searcher 'successive_halving': the trainer 'tabular' knows trainings of 12 or"),
        ("nac", "the searcher 'nac' needs 'envelope'"),
        ("envelope", "the searcher 'envelope' needs 'envelope'"),
        ("fixed", "architecture"),
    ],
)
def test_a_searcher_that_a_table_cannot_serve_says_why(complaint, table, searcher, said) -> None:
    line = complaint(*BENCHMARK, "--table", table, "--seeds", 2, "--evaluations", 9, "--searchers", searcher)
    assert said in line


def test_a_searcher_that_searches_nothing_is_no_racer(complaint, table) -> None:
    network = json.dumps(from_arch_str("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|").to_data())
    words = ("--table", table, "--searchers", "fixed", "--set", f"fixed.architecture={network}")
    assert "'fixed': it searches nothing" in complaint(*BENCHMARK, *words, "--seeds", 2, "--evaluations", 9)


@pytest.mark.parametrize("searcher", ["random", "evolution", "local_search", "reinforce", "tpe", "bayes"])
def test_every_other_searcher_runs_on_a_table(amla, table, searcher) -> None:
    words = ("--table", table, "--dataset", "cifar10", "--seeds", 1, "--evaluations", 12, "--searchers", searcher)
    (row,) = json.loads(amla(*BENCHMARK, *words, "--json").stdout)["rows"]
    assert row["evaluations_mean"] == 12
    assert row["searcher"] == searcher


def test_a_table_that_lacks_a_column(complaint, tmp_path) -> None:
    short = tables.write_csv(tmp_path / "t.csv", without="params_m")
    words = ("--table", short, "--seeds", 2, "--evaluations", 2, "--dataset", "cifar10", "--searchers", "random")
    assert "'params_m' is missing" in complaint(*BENCHMARK, *words)


@pytest.mark.parametrize("more", [(), ("--executor", "simulated", "--jobs", 3)])
def test_a_search_with_its_store(amla, table, tmp_path, more) -> None:
    done = amla("search", f"table:{table}#cifar100", *ON_TABLE, "--trials", 6, "--out", "run", "--json", *more)
    document = json.loads(done.stdout)
    assert document["state"] == "done"
    assert document["trials"] == 8
    assert 0.0 < document["test"]["accuracy"] < 1.0
    assert document["seconds"]["search"] > 6 * 60
    assert {"report.html", "architecture.json", "experiment.yaml"} <= set(document["artifacts"])
    assert "model.onnx" not in document["artifacts"]
    again = json.loads(amla("run", "run/experiment.yaml", "--out", "again", "--json").stdout)
    assert again["test"] == document["test"]
    assert json.loads(amla("resume", document["experiment"], "--json").stdout)["test"] == document["test"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits", *ON_TABLE), "table:FILE#DATASET"),
        (("TABLE", "--searcher", "random"), "--trainer tabular"),
        (("TABLE", "--trainer", "tabular", "--searcher", "random"), "'nasbench201' only"),
        (("TABLE", *ON_TABLE, "--search-epochs", 3), "12 or 200 epochs"),
        (("TABLE", "--trainer", "tabular", "--searcher", "nac", "--space", "nasbench201"), "nac"),
    ],
)
def test_a_search_that_cannot_be(complaint, table, words, said) -> None:
    assert said in complaint("search", *(f"table:{table}" if word == "TABLE" else word for word in words))

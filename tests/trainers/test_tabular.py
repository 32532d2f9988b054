"""The trainer that looks networks up."""

from pathlib import Path

import pytest

from amla import datasets
from amla.datasets.table import TableDataset
from amla.engine.options import spec_of
from amla.engine.prepare import prepare
from amla.errors import AmlaError, ConfigError, TrialFailure
from amla.spaces.nasbench201 import from_arch_str
from amla.spec.costs import flops
from amla.spec.data import DatasetSpec
from amla.spec.lower import lower
from amla.spec.training import Budget
from amla.spec.trial import Job, TrialSpec
from amla.testing import tables
from amla.trainers.tabular.trainer import TabularTrainer

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TableDataset:
    path = tables.write_csv(tmp_path_factory.mktemp("table") / "t.csv")
    found = datasets.load(DatasetSpec(name=f"table:{path}"))
    assert isinstance(found, TableDataset)
    return found


def job(data: TableDataset, budget: Budget, **more: object) -> Job:
    spec = TrialSpec(architecture=from_arch_str(CELL), budget=budget, **more)
    return Job(experiment="e", number=0, seed=0, spec=spec, dataset=data.spec, trainer="tabular", folder="nowhere")


@pytest.mark.parametrize("epochs", [12, 200])
def test_it_tells_what_the_table_has(data: TableDataset, epochs: int) -> None:
    asked = job(data, Budget(epochs=epochs))
    result = TabularTrainer().train(asked, data)
    entry = data.entry(CELL, epochs)
    assert (result.accuracy, result.parameters) == (entry.valid, entry.parameters)
    assert (result.cost.seconds, result.cost.simulated) == (entry.seconds, True)
    assert result.flops == flops(lower(asked.spec.architecture, (3, 32, 32), 10))
    assert result.position == epochs * (25_000 // 128)
    assert TabularTrainer(flops=False).train(asked, data) == result.model_copy(update={"flops": 0})
    assert not Path("nowhere").exists()


def test_the_test_is_that_of_the_longest_training(data: TableDataset) -> None:
    asked = job(data, Budget(steps=1), procedure="evaluate", settings={"split": "test"}, purpose="test")
    result = TabularTrainer().evaluate(asked, data, "test")
    assert result.metrics == {"test": {"accuracy": data.entry(CELL, 200).test}}
    with pytest.raises(TrialFailure, match="no accuracy on train"):
        TabularTrainer().evaluate(asked, data, "train")


@pytest.mark.parametrize("budget", [Budget(epochs=13), Budget(steps=12), Budget(seconds=12)])
def test_no_other_length(data: TableDataset, budget: Budget) -> None:
    with pytest.raises(TrialFailure, match="12 or 200 epochs"):
        TabularTrainer().train(job(data, budget), data)


def test_nothing_is_inherited(data: TableDataset) -> None:
    with pytest.raises(TrialFailure, match="goes on from another"):
        TabularTrainer().train(job(data, Budget(epochs=12), parent=0, inherit="state"), data)


def test_images_are_of_no_use_to_it(data: TableDataset) -> None:
    digits = datasets.load(DatasetSpec(name="digits"))
    with pytest.raises(ConfigError, match="table:FILE#DATASET"):
        TabularTrainer().train(job(data, Budget(epochs=12)), digits)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"space": "envelope"}, "'nasbench201' only"),
        ({"search_epochs": 5}, "budget: .* 12 or 200 epochs only"),
        ({"steps": 5}, "final_budget: .* 12 or 200 epochs only"),
        ({"objectives": ["latency_ms"]}, "does not tell latency_ms"),
        ({"hyperparameters": {"training.batch_size": [64, 128]}}, "hyperparameters"),
    ],
)
def test_what_a_table_cannot_do_is_refused_before_anything_runs(data: TableDataset, options, said: str) -> None:
    asked = {"dataset": data.spec.name, "trainer": "tabular", "searcher": "random", "space": "nasbench201"} | options
    with pytest.raises(AmlaError, match=said):
        prepare(spec_of(asked), data.info, TabularTrainer(), "nowhere", "e")


def test_its_lengths_are_the_default(data: TableDataset) -> None:
    asked = {"dataset": data.spec.name, "trainer": "tabular", "searcher": "random", "space": "nasbench201"}
    found = prepare(spec_of(asked), data.info, TabularTrainer(), "nowhere", "e").problem
    assert (found.budget, found.final_budget) == (Budget(epochs=12), Budget(epochs=200))

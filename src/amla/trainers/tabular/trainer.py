"""``tabular``: a network is looked up in a benchmark's table, not trained. Its seconds are the table's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import JsonValue

from amla.datasets.base import Dataset, Images
from amla.datasets.table import SUFFIXES, TableDataset
from amla.errors import ConfigError, TrialFailure
from amla.spaces.nasbench201 import arch_str
from amla.spec.costs import BYTES_PER_VALUE, flops
from amla.spec.data import DatasetInfo, Split
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.training import Budget, Training
from amla.spec.trial import Cost, Job, Progress, Result
from amla.trainers.base import Floats, Reporter, Trainer, silent

DEVICE = "table"
SPACE = "nasbench201"
#: What a table tells of a network besides its accuracy.
TOLD = ("accuracy", "parameters", "size_mb")


class TabularTrainer(Trainer):
    """Trainings of 12 or 200 epochs, as NAS-Bench-201 has them, with the published settings whatever a trial says.

    The table is the experiment's dataset (``table:FILE#cifar10``). Nothing is left in a trial's folder. ``flops``: whether
    multiply-adds are counted, which takes longer than looking up.
    """

    provides = frozenset({"train", "evaluate"})
    trains: ClassVar[bool] = False
    fidelities: ClassVar[tuple[Budget, ...]] = tuple(Budget(epochs=epochs) for epochs in sorted(SUFFIXES))

    def __init__(self, *, flops: bool = True) -> None:
        self.told = TOLD + (("flops",) if flops else ())

    def check(self, problem: Problem) -> None:
        if problem.space != SPACE:
            raise ConfigError(
                f"space: the trainer 'tabular' knows the networks of {SPACE!r} only, not {problem.space!r}"
            )
        if problem.hyperparameters:
            raise ConfigError("hyperparameters: a table knows one training only, so there are none to search")
        unknown = next((o.metric for o in problem.objectives if o.metric not in self.told), None)
        if unknown is not None:
            raise ConfigError(f"objectives: a table does not tell {unknown}; it tells {', '.join(self.told)}")

    def train(self, job: Job, data: Dataset, report: Reporter = silent) -> Result:
        table, budget = _table(data), job.spec.budget
        if job.spec.inherit != "none":
            raise TrialFailure("data", "a table knows no training that goes on from another")
        if budget not in self.fidelities:
            raise TrialFailure(
                "data", f"a table knows trainings of {' or '.join(map(str, sorted(SUFFIXES)))} epochs only"
            )
        epochs = round(budget.epochs or 0.0)
        found = table.entry(arch_str(job.spec.architecture), epochs)
        steps = budget.in_steps(table.info.sizes["train"], job.spec.training.batch_size) or 1
        report(Progress(number=job.number, step=steps, steps=steps, accuracy=found.valid))
        cost = Cost(seconds=found.seconds, train_seconds=found.seconds, steps=steps, device=DEVICE, simulated=True)
        return Result(
            metrics={"valid": {"accuracy": found.valid}},
            parameters=found.parameters,
            flops=self._flops(job, table) if "flops" in self.told else 0,
            size_mb=BYTES_PER_VALUE * 1e-6 * found.parameters,
            position=steps,
            cost=cost,
        )

    def evaluate(self, job: Job, data: Dataset, split: Split) -> Result:
        """After the longest training, whatever the parent's was."""
        found = _table(data).entry(arch_str(job.spec.architecture), max(SUFFIXES))
        accuracies = {"valid": found.valid, "test": found.test}
        if split not in accuracies:
            raise TrialFailure("data", f"a table has no accuracy on {split}")
        cost = Cost(device=DEVICE, simulated=True)
        return Result(metrics={split: {"accuracy": accuracies[split]}}, parameters=found.parameters, cost=cost)

    def predict(self, graph: Graph, weights: Mapping[str, Floats], info: DatasetInfo, images: Images) -> Floats:
        """Errors: ``ConfigError``: a network that was looked up has no weights."""
        del graph, weights, info, images
        raise ConfigError("a network that was looked up in a table has no weights; train it first: `amla train`")

    def measure(self, graph: Graph, training: Training, measured: Mapping[str, JsonValue]) -> dict[str, Any]:
        """There is nothing to measure."""
        del graph, training, measured
        return {"device": DEVICE, "simulated": True}

    def _flops(self, job: Job, table: TableDataset) -> int:
        return flops(lower(job.spec.architecture, table.info.input_shape, table.info.num_classes))


def _table(data: Dataset) -> TableDataset:
    if not isinstance(data, TableDataset):
        raise ConfigError("dataset: the trainer 'tabular' looks networks up; give it table:FILE#DATASET")
    return data

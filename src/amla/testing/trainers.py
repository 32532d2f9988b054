"""``TrainerSuite``: what every trainer must do. Subclass it, give it your trainer, run pytest.

It trains tiny networks on the handwritten digits that come with scikit-learn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from amla import artifacts, datasets
from amla.datasets.base import Dataset
from amla.errors import SearchError, TrialFailure
from amla.spec import architecture as a
from amla.spec.costs import costs
from amla.spec.data import DatasetSpec
from amla.spec.graph import weights
from amla.spec.lower import lower
from amla.spec.training import (
    SGD,
    AdamW,
    Augmentation,
    Budget,
    Clip,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    OneCycle,
    RMSprop,
    Training,
)
from amla.spec.trial import INSTRUMENTS, Job, Progress, Settle, TrialSpec
from amla.trainers.base import Trainer

DIGITS = DatasetSpec(name="digits", limit=256)
PLAIN = Training(batch_size=32, schedule=Constant(rate=0.05), precision="float32")


def network(layers: int = 2, dropout: float = 0.1) -> a.MacroArchitecture:
    """Branches of several kinds, a skip, an auxiliary classifier."""

    def layer(number: int, skips: tuple[str, ...] | None) -> a.Layer:
        operations = ("1x1", "3x3", "5x5sep")
        branches = tuple(a.Branch(name=f"branch{i}", operation=op, channels=4) for i, op in enumerate(operations, 1))
        return a.Layer(name=f"layer{number}", branches=branches, skips=skips)

    rest = tuple(layer(n, ("stage1/layer1",) if n == 3 else ()) for n in range(2, layers + 1))
    return a.MacroArchitecture(
        stem=(a.ConvStep(channels=12),),
        stages=(a.Stage(name="stage1", layers=(layer(1, None), *rest)),),
        head=(a.GlobalPoolStep(), a.DenseStep()),
        auxiliaries=(a.Auxiliary(source="stage1/layer1"),),
        style=a.Style(dropout=dropout),
    )


def every_operation() -> a.MacroArchitecture:
    """Every step and every kind of operation that a macro architecture has."""
    names = ("1x1", "3x3", "4x4", "3x3sep", "7x7sep", "3x3dil2", "3x3maxpool", "2x2avgpool", "identity", "zero")
    branches = tuple(a.Branch(name=f"branch{i}", operation=op, channels=4) for i, op in enumerate(names))
    later = tuple(a.Branch(name=f"branch{i}", operation=op, channels=5) for i, op in enumerate(("5x5", "identity")))
    return a.MacroArchitecture(
        stem=(
            a.CutoutStep(size=2),
            a.ConvStep(channels=4, kernel=3, bias=True, norm=False),
            a.LRNStep(size=3),
            a.PoolStep(kind="avg", kernel=3, stride=1),
            a.ActivationStep(),
        ),
        stages=(
            a.Stage(name="s1", layers=(a.Layer(name="a", branches=branches),), widener=a.Widener(channels=6)),
            a.Stage(
                name="s2",
                layers=(a.Layer(name="a", branches=later, skips=("s1/a", "stem")),),
                widener=a.Widener(kind="pool", inputs=("s1/a",)),
            ),
        ),
        head=(a.FlattenStep(), a.DenseStep(units=8), a.ActivationStep(), a.DropoutStep(rate=0.1), a.DenseStep()),
        auxiliaries=(a.Auxiliary(source="s1/a"),),
        style=a.Style(dropout=0.1, norm_scale=False, pool_norm=True),
    )


def stacked_cells() -> a.MicroArchitecture:
    """Cells with joins over inputs of other widths and resolutions, activation first, as in DARTS."""
    nodes = (
        a.CellNode(name="down", operation="3x3sep", inputs=("one",), stride=2, channels="width"),
        a.CellNode(name="wide", operation="3x3dil2", inputs=("two",), channels=6),
        a.CellNode(name="none", operation="zero", inputs=("one",)),
        a.CellNode(name="sum", operation="add", inputs=("down", "wide", "none")),
        a.CellNode(name="out", operation="concat", inputs=("sum", "down")),
    )
    return a.MicroArchitecture(
        stem=(a.ConvStep(channels=4),),
        cells={"cell": a.Cell(inputs={"one": 0, "two": -1}, nodes=nodes)},
        network=(a.Placement(name="c1", cell="cell", width=8), a.Placement(name="c2", cell="cell", width=8)),
        auxiliaries=(a.Auxiliary(source="c1"),),
        style=a.Style(order="act_conv_norm", separable_repeats=2, activation="gelu"),
    )


class TrainerSuite:
    """Override ``trainer``."""

    instruments: ClassVar[tuple[str, ...]] = tuple(sorted(INSTRUMENTS))

    def trainer(self) -> Trainer:
        raise NotImplementedError("give the suite your trainer")

    @pytest.fixture
    def data(self) -> Dataset:
        return datasets.load(DIGITS)

    def job(self, folder: Path, number: int = 0, seed: int = 1, **spec: Any) -> Job:
        asked = TrialSpec(**({"architecture": network(), "training": PLAIN, "budget": Budget(steps=8)} | spec))
        parent = str(folder.parent / f"{asked.parent}") if asked.parent is not None else None
        return Job(
            experiment="suite",
            number=number,
            seed=seed,
            spec=asked,
            dataset=DIGITS,
            folder=str(folder),
            parent_folder=parent,
        )

    # -------------------------------------------------------------------------------------------------------------- training
    def test_it_learns_and_leaves_its_weights(self, tmp_path: Path, data: Dataset) -> None:
        # at a small constant rate so few steps come to anything from 0.3 to 0.65, by the seed alone; so, to 0.84 and more
        training = PLAIN.model_copy(update={"batch_size": 64, "schedule": OneCycle(rate=0.3)})
        job = self.job(tmp_path / "0", architecture=network(dropout=0.0), training=training, budget=Budget(epochs=20))
        result = self.trainer().train(job, data)
        assert result.failure is None
        assert result.accuracy > 0.6
        graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes)
        found = costs(graph)
        assert (result.parameters, result.flops) == (found.parameters, found.flops)
        arrays = artifacts.unpack(artifacts.read(job.folder, "model.safetensors") or b"")
        assert {n: v.shape for n, v in arrays.items()} == {w.name: w.shape for w in weights(graph.inference())}
        assert result.cost.steps == result.position == result.curve[-1].step == 80

    @pytest.mark.parametrize("architecture", [every_operation(), stacked_cells()], ids=["macro", "micro"])
    def test_every_operation_is_built_as_it_is_counted(
        self, tmp_path: Path, data: Dataset, architecture: a.MacroArchitecture | a.MicroArchitecture
    ) -> None:
        job = self.job(tmp_path / "0", architecture=architecture, budget=Budget(steps=2))
        self.trainer().train(job, data)
        graph = lower(architecture, data.info.input_shape, data.info.num_classes).inference()
        arrays = artifacts.unpack(artifacts.read(job.folder, "model.safetensors") or b"")
        assert {n: v.shape for n, v in arrays.items()} == {w.name: w.shape for w in weights(graph)}
        trained = [weight.name for weight in weights(graph) if weight.trained]
        assert sum(arrays[name].size for name in trained) == costs(graph).parameters
        found = self.trainer().predict(graph, arrays, data.info, data.arrays("valid")[0])
        assert np.isfinite(found).all()

    def test_the_same_seed_gives_the_same_result(self, tmp_path: Path, data: Dataset) -> None:
        one, two, other = (
            self.train(tmp_path / name, data, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
        )
        assert one == two
        assert one != other

    @pytest.mark.parametrize(
        ("stopped_after", "optimizer"),
        [(1, PLAIN.optimizer), (5, PLAIN.optimizer), (2, SGD()), (4, AdamW()), (3, RMSprop(momentum=0.5))],
    )
    def test_resumed_is_as_good_as_uninterrupted(
        self, tmp_path: Path, data: Dataset, stopped_after: int, optimizer: SGD | AdamW | RMSprop
    ) -> None:
        spec: dict[str, Any] = {
            "instruments": tuple(sorted(set(self.instruments) - {"block_time"})),
            "snapshots": (0.5,),
            "training": PLAIN.model_copy(
                update={
                    "optimizer": optimizer,
                    "schedule": OneCycle(rate=0.01),
                    "ema": 0.9,
                    "augmentation": Augmentation(pad_crop=1, cutout=2),
                }
            ),
        }
        whole = self.train(tmp_path / "whole", data, **spec)
        job = self.job(tmp_path / "halved", **spec)
        with pytest.raises(TrialFailure, match="stopped at step") as failure:
            self.trainer().train(job, data, stopping_at(stopped_after))
        assert failure.value.kind == "cancelled"
        assert figures(self.trainer().train(job, data), tmp_path / "halved") == whole

    def test_a_job_that_has_ended_is_not_trained_again(self, tmp_path: Path, data: Dataset) -> None:
        job = self.job(tmp_path / "0")
        first = self.trainer().train(job, data)
        again = self.trainer().train(job, data)
        assert (again.metrics, again.cost.steps, again.position) == (first.metrics, first.cost.steps, first.position)

    @pytest.mark.parametrize(
        "change",
        [
            {"optimizer": SGD()},
            {"optimizer": SGD(momentum=0.9, nesterov=True, weight_decay=1e-3)},
            {"optimizer": AdamW(), "schedule": Constant(rate=0.003)},
            {"optimizer": RMSprop(momentum=0.9), "schedule": Constant(rate=0.001)},
            {"schedule": Exponential(rate=0.1)},
            {"schedule": Cosine()},
            {"schedule": CosineRestarts(first=1.0)},
            {"schedule": OneCycle()},
            {"warmup": 0.5},
            {"clip": Clip(kind="norm", value=1.0)},
            {"clip": Clip(kind="value", value=0.1)},
            {"label_smoothing": 0.1},
            {"ema": 0.9},
            {"augmentation": Augmentation(pad_crop=2, flip=True, cutout=3)},
            {"batch_size": 1000},
        ],
    )
    def test_every_way_to_train(self, tmp_path: Path, data: Dataset, change: dict[str, Any]) -> None:
        job = self.job(tmp_path / "0", training=PLAIN.model_copy(update=change), budget=Budget(steps=3))
        result = self.trainer().train(job, data)
        assert result.failure is None
        assert 0.0 <= result.accuracy <= 1.0

    def test_a_budget_in_seconds_ends(self, tmp_path: Path, data: Dataset) -> None:
        result = self.trainer().train(self.job(tmp_path / "0", budget=Budget(seconds=0.3)), data)
        assert result.cost.steps >= 1
        assert 0.3 <= result.cost.seconds < 5.0  # readings of the validation split are part of them

    def test_a_budget_in_steps_is_cut_to_its_seconds(self, tmp_path: Path, data: Dataset) -> None:
        cut = self.trainer().train(self.job(tmp_path / "0", budget=Budget(steps=10**6), within=1.5), data)
        assert 1 <= cut.cost.steps < 10**6
        assert cut.cost.train_seconds < 60.0  # what a library takes to compile the first step among them
        one, other = (
            self.trainer().train(self.job(tmp_path / f"{within}", within=within), data) for within in (None, 1000.0)
        )
        assert one.metrics == other.metrics

    def test_a_loss_that_is_no_number_ends_the_trial(self, tmp_path: Path, data: Dataset) -> None:
        training = PLAIN.model_copy(update={"schedule": Constant(rate=1e30)})
        with pytest.raises(TrialFailure) as failure:
            self.trainer().train(self.job(tmp_path / "0", training=training, budget=Budget(steps=50)), data)
        assert failure.value.kind == "nan"
        assert "step" in failure.value.reason

    # ----------------------------------------------------------------------------------------------------------- inheritance
    @pytest.mark.parametrize("inherit", ["weights", "state"])
    def test_a_child_goes_on_from_its_parent(self, tmp_path: Path, data: Dataset, inherit: str) -> None:
        self.trainer().train(self.job(tmp_path / "0", budget=Budget(steps=20), horizon=Budget(steps=40)), data)
        grown: dict[str, Any] = {
            "architecture": network(layers=3),
            "parent": 0,
            "inherit": inherit,
            "horizon": Budget(steps=40),
        }
        child = self.trainer().train(self.job(tmp_path / "1", number=1, **grown), data)
        afresh = self.trainer().train(self.job(tmp_path / "2", architecture=network(layers=3)), data)
        assert child.position == (28 if inherit == "state" else 8)
        assert child.metrics["valid"]["loss"] < afresh.metrics["valid"]["loss"]

    def test_a_grown_layer_changes_nothing_at_first(self, tmp_path: Path, data: Dataset) -> None:
        before = self.trainer().train(
            self.job(tmp_path / "0", architecture=network(dropout=0.0), budget=Budget(steps=60)), data
        )
        still = PLAIN.model_copy(update={"schedule": Constant(rate=1e-12), "optimizer": SGD()})
        grown = network(layers=3, dropout=0.0)
        child = self.job(
            tmp_path / "1", architecture=grown, training=still, budget=Budget(steps=1), parent=0, inherit="weights"
        )
        after = self.trainer().train(child, data)
        assert after.metrics["valid"]["loss"] == pytest.approx(before.metrics["valid"]["loss"], rel=0.15)
        assert abs(after.accuracy - before.accuracy) < 0.05

    @pytest.mark.parametrize("optimizer", [PLAIN.optimizer, AdamW(), RMSprop(momentum=0.5)], ids=lambda how: how.kind)
    def test_the_whole_state_passes_through_surgery(
        self, tmp_path: Path, data: Dataset, optimizer: SGD | AdamW | RMSprop
    ) -> None:
        """Narrower, wider, pruned and grown, one after the other, each from the state of the one before."""
        training = PLAIN.model_copy(
            update={"optimizer": optimizer, "schedule": OneCycle(rate=0.01), "ema": 0.9, "batch_size": 64}
        )
        spec: dict[str, Any] = {"training": training, "budget": Budget(steps=6), "horizon": Budget(steps=24)}
        whole = network(layers=3)
        first = whole.stages[0].layers[0]
        pruned = first.model_copy(update={"branches": first.branches[1:]})
        wider = tuple(branch.model_copy(update={"channels": 6}) for branch in pruned.branches)
        networks = [whole]
        for layer in (pruned, pruned.model_copy(update={"branches": wider})):
            stage = whole.stages[0].model_copy(update={"layers": (layer, *whole.stages[0].layers[1:])})
            networks.append(whole.model_copy(update={"stages": (stage,)}))
        networks.append(network(layers=4))
        for number, architecture in enumerate(networks):
            inherited: dict[str, Any] = {"parent": number - 1, "inherit": "state"} if number else {}
            result = self.trainer().train(
                self.job(tmp_path / f"{number}", number, architecture=architecture, **spec, **inherited), data
            )
            assert result.position == 6 * (number + 1)
            assert np.isfinite(result.metrics["valid"]["loss"])

    def test_nothing_to_inherit_is_a_failure_of_the_trial(self, tmp_path: Path, data: Dataset) -> None:
        with pytest.raises(TrialFailure, match="no state to inherit"):
            self.trainer().train(self.job(tmp_path / "1", parent=0, inherit="state"), data)

    # ----------------------------------------------------------------------------------------------------------- instruments
    def test_every_instrument_gives_its_statistics_of_every_block(self, tmp_path: Path, data: Dataset) -> None:
        trainer = self.trainer()
        names = [name for name in self.instruments if name in trainer.provides]
        assert names
        spec: dict[str, Any] = {"architecture": network(layers=3), "instruments": tuple(names), "snapshots": (0.5, 1.0)}
        result = trainer.train(self.job(tmp_path / "0", **spec), data)
        graph = lower(network(layers=3), data.info.input_shape, data.info.num_classes)
        for statistics in (result.statistics, *(snapshot.statistics for snapshot in result.snapshots)):
            for block in graph.blocks:
                given = [n for n in names if (n == "skip") == (block.kind == "skip")]
                wanted = {statistic for name in given for statistic in INSTRUMENTS[name]}
                assert set(statistics[block.name]) == wanted
                assert all(np.isfinite(value) for value in statistics[block.name].values())
        assert [snapshot.step for snapshot in result.snapshots] == [4, 8]

    def test_instruments_do_not_change_the_training(self, tmp_path: Path, data: Dataset) -> None:
        watched = self.trainer().train(self.job(tmp_path / "a", instruments=tuple(self.instruments)), data)
        alone = self.trainer().train(self.job(tmp_path / "b"), data)
        assert watched.metrics == alone.metrics

    def test_a_settled_ranking_ends_the_training_where_asked(self, tmp_path: Path, data: Dataset) -> None:
        settle = Settle(every=2, looks=2, tau=-0.99)
        spec: dict[str, Any] = {"instruments": ("feature_map",), "settle": settle, "budget": Budget(steps=100)}
        result = self.trainer().train(self.job(tmp_path / "0", **spec), data)
        assert result.cost.steps == 6

    def test_what_it_has_not_is_named(self, tmp_path: Path, data: Dataset) -> None:
        with pytest.raises(SearchError, match="telepathy"):
            self.trainer().train(self.job(tmp_path / "0", procedure="telepathy"), data)
        with pytest.raises(SearchError, match="dowsing"):
            self.trainer().train(self.job(tmp_path / "0", instruments=("dowsing",)), data)

    # ------------------------------------------------------------------------------------------------------------- measuring
    def test_evaluate_reads_what_training_left(self, tmp_path: Path, data: Dataset) -> None:
        trained = self.trainer().train(self.job(tmp_path / "0"), data)
        asked = self.job(tmp_path / "1", parent=0, inherit="weights", procedure="evaluate")
        evaluated = self.trainer().evaluate(asked, data, "valid")
        assert evaluated.metrics["valid"] == pytest.approx(trained.metrics["valid"], abs=1e-5)
        assert set(self.trainer().evaluate(asked, data, "test").metrics) == {"test"}

    def test_predictions_are_probabilities(self, tmp_path: Path, data: Dataset) -> None:
        job = self.job(tmp_path / "0")
        result = self.trainer().train(job, data)
        arrays = artifacts.unpack(artifacts.read(job.folder, "model.safetensors") or b"")
        graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes).inference()
        images, labels = data.arrays("valid")
        found = self.trainer().predict(graph, arrays, data.info, images)
        assert found.shape == (len(labels), 10)
        assert found.sum(1) == pytest.approx(np.ones(len(labels)), abs=1e-5)
        assert float((found.argmax(1) == labels).mean()) == pytest.approx(result.accuracy)
        assert self.trainer().predict(graph, arrays, data.info, images[:0]).shape == (0, 10)

    def test_measuring_keeps_what_was_measured(self, data: Dataset) -> None:
        graph = lower(network(), data.info.input_shape, data.info.num_classes)
        auto = PLAIN.model_copy(update={"precision": "auto"})
        first = self.trainer().measure(graph, auto, {})
        assert first["dtype"] in ("float32", "bfloat16")
        assert first["step_seconds"] > 0.0
        assert first["evaluate_seconds"] > 0.0
        assert self.trainer().measure(graph, auto, {"dtype": "float32", "threads": 1})["dtype"] == "float32"
        assert self.trainer().measure(graph, PLAIN, {})["dtype"] == "float32"

    def train(self, folder: Path, data: Dataset, seed: int = 1, **spec: Any) -> dict[str, Any]:
        return figures(self.trainer().train(self.job(folder, seed=seed, **spec), data), folder)


def figures(result: Any, folder: Path) -> dict[str, Any]:
    """Everything of a result but the seconds, and the weights it left, bit for bit."""
    found: dict[str, Any] = result.to_data()
    del found["cost"]
    found["curve"] = [{key: value for key, value in point.items() if key != "seconds"} for point in found["curve"]]
    found["weights"] = artifacts.read(str(folder), "model.safetensors")
    return found


def stopping_at(step: int) -> Any:
    """A reporter that says stop at the first report from this step on."""
    return lambda progress: not (isinstance(progress, Progress) and progress.step >= step)

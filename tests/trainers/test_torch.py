"""The torch trainer: the shipped suite, and what is special about torch."""

import hashlib
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from amla import artifacts, datasets
from amla.datasets.base import Dataset, Images, Labels
from amla.errors import DataError, TrialFailure
from amla.spec import architecture as a
from amla.spec.data import Split
from amla.spec.graph import Graph
from amla.spec.lower import lower
from amla.spec.training import Budget, Constant, Cosine, OneCycle, Training
from amla.spec.trial import Job, Point, Progress, Resources
from amla.testing.trainers import DIGITS, PLAIN, TrainerSuite, figures, network, stopping_at
from amla.trainers import loop
from amla.trainers.base import Trainer
from amla.trainers.cells import cells_of
from amla.trainers.torch import trainer
from amla.trainers.torch.cells import Rule
from amla.trainers.torch.data import Batches
from amla.trainers.torch.kernels import to_json
from amla.trainers.torch.loop import Loop
from amla.trainers.torch.state import begin
from amla.trainers.torch.trainer import TorchTrainer

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite stops at a given step; a short training is otherwise over before the first report."""
    monkeypatch.setattr(loop, "REPORT", 0.0)


class TestTorchTrainer(TrainerSuite):
    def trainer(self) -> Trainer:
        return TorchTrainer()


@pytest.mark.parametrize("rule", [Rule((3, 5), 5), Rule((7,), 7), Rule((), 0, matrices=True)], ids=str)
def test_resumed_by_a_plan_is_as_good_as_uninterrupted(tmp_path: Path, data: Dataset, rule: Rule) -> None:
    """The plan is the experiment's: a trial goes on by it, wherever that is."""
    measured = {"kernels": to_json({(8, 16, 4, 4): rule})}

    def job(name: str) -> Job:
        return job_in(tmp_path / name, instruments=("feature_map", "taylor")).model_copy(update={"measured": measured})

    assert cells_of(lower(job("whole").spec.architecture, data.info.input_shape, data.info.num_classes))
    whole = figures(TorchTrainer().train(job("whole"), data), tmp_path / "whole")
    with pytest.raises(TrialFailure, match="stopped at step"):
        TorchTrainer().train(job("halved"), data, stopping_at(3))
    assert figures(TorchTrainer().train(job("halved"), data), tmp_path / "halved") == whole


def job_in(folder: Path, **spec: Any) -> Job:
    return TrainerSuite().job(folder, **spec)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return datasets.load(DIGITS)


# ------------------------------------------------------------------------------------------------------------ the same again
ANOTHER_PROCESS = """
import hashlib, sys
from pathlib import Path
from amla import artifacts, datasets
from amla.spec.trial import Job
from amla.trainers.torch.trainer import TorchTrainer
job = Job.from_json(sys.stdin.read())
TorchTrainer().train(job, datasets.load(job.dataset))
print(hashlib.sha256(artifacts.read(job.folder, "model.safetensors")).hexdigest())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_comes_to_the_same_bits(tmp_path: Path, data: Dataset, threads: int) -> None:
    job = job_in(tmp_path / "here").model_copy(update={"resources": Resources(threads=threads)})
    TorchTrainer().train(job, data)
    here = hashlib.sha256(artifacts.read(job.folder, "model.safetensors") or b"").hexdigest()
    there = job.model_copy(update={"folder": str(tmp_path / "there")})
    done = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS], input=there.to_json(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == here
    assert torch.get_num_threads() == 1


def test_when_checkpoints_are_written_makes_no_odds(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"budget": Budget(steps=12), "instruments": ("feature_map",)}
    plain = figures(TorchTrainer().train(job_in(tmp_path / "0", **spec), data), tmp_path / "0")
    monkeypatch.setattr(loop, "CHECKPOINT", 0.0)
    often = figures(TorchTrainer().train(job_in(tmp_path / "1", **spec), data), tmp_path / "1")
    assert plain == often


def test_nothing_is_left_but_what_is_promised(tmp_path: Path, data: Dataset) -> None:
    TorchTrainer().train(job_in(tmp_path / "0"), data)
    assert {path.name for path in (tmp_path / "0").iterdir()} == {
        "model.safetensors",
        "state.safetensors",
        "architecture.json",
    }


# ------------------------------------------------------------------------------------------------------------------- budgets
def a_loop(folder: Path, data: Dataset, training: Training, before: float = 0.0, **spec: Any) -> Loop:
    job = job_in(folder, training=training, **spec)
    graph = lower(job.spec.architecture, data.info.input_shape, data.info.num_classes)
    batches = Batches(data, training.batch_size, training.augmentation, job.seed, CPU)
    state = begin(job, graph, batches, CPU)
    state.counters.seconds_before = before
    return Loop(job, data, state, batches, "float32", lambda progress: True)


def test_a_schedule_in_seconds_follows_the_clock_of_the_chain(tmp_path: Path, data: Dataset) -> None:
    cosine = PLAIN.model_copy(update={"schedule": Cosine(rate=1.0)})
    alone = a_loop(tmp_path / "0", data, cosine, budget=Budget(seconds=10.0))
    assert alone._rate() == 1.0
    alone.state.counters.position, alone.state.counters.seconds = 700, 5.0
    assert alone._rate() == pytest.approx(0.5)
    alone.state.counters.seconds = 11.0
    assert alone._rate() == pytest.approx(0.0)
    shared = a_loop(tmp_path / "1", data, cosine, 5.0, budget=Budget(seconds=10.0), horizon=Budget(seconds=20.0))
    shared.state.counters.position, shared.state.counters.seconds = 700, 5.0
    assert shared._rate() == pytest.approx(0.5)


def test_a_warm_up_lasts_epochs_whatever_the_budget_counts(tmp_path: Path, data: Dataset) -> None:
    training = PLAIN.model_copy(update={"schedule": Constant(rate=1.0), "warmup": 1.0})
    timed = a_loop(tmp_path / "0", data, training, budget=Budget(seconds=1000.0))
    assert timed.batches.per_epoch == 8
    timed.state.counters.position, timed.state.counters.seconds = 3, 0.1
    assert timed._rate() == pytest.approx(0.5)


def test_steps_for_which_there_is_no_time_are_left_out(tmp_path: Path, data: Dataset) -> None:
    """100 steps within 10 s: at 0.2 s a step there is time for 50; what the first one took is not believed."""
    cosine = PLAIN.model_copy(update={"schedule": Cosine(rate=1.0)})
    cut = a_loop(tmp_path / "0", data, cosine, budget=Budget(steps=100), horizon=Budget(steps=300), within=10.0)
    counters = cut.state.counters
    counters.curve.append(Point(step=5, seconds=1.0, loss=1.0))

    def at(step: int, seconds: float) -> tuple[int | None, float, bool]:
        counters.step = counters.position = step
        counters.seconds = seconds
        counters.curve.append(Point(step=step, seconds=seconds, loss=1.0))
        cut._fit_within()
        return cut.steps, cut.horizon, cut._over()

    assert at(7, 0.9) == (100, 300.0, False)  # too early to tell
    assert at(15, 3.0) == (50, 250.0, False)
    assert max(step for step in cut.marks) == 50
    resumed = a_loop(tmp_path / "1", data, cosine, budget=Budget(steps=100), horizon=Budget(steps=300), within=10.0)
    resumed.state.counters.cut = counters.cut
    again = Loop(resumed.job, data, resumed.state, resumed.batches, "float32", lambda progress: True)
    assert (again.steps, again.horizon) == (50, 250.0)
    assert at(45, 5.0) == (95, 295.0, False)  # it was another program's doing
    assert at(85, 5.5) == (100, 300.0, False)
    assert at(90, 10.0) == (90, 290.0, True)


def test_snapshots_of_a_budget_in_seconds(tmp_path: Path, data: Dataset) -> None:
    spec = {"budget": Budget(seconds=0.3), "snapshots": (0.5, 1.0), "instruments": ("feature_map",)}
    result = TorchTrainer().train(job_in(tmp_path / "0", **spec), data)
    assert len(result.snapshots) == 2
    assert result.snapshots[0].step < result.snapshots[1].step == result.cost.steps
    assert result.snapshots[1].statistics == result.statistics


# ------------------------------------------------------------------------------------------------------------------ bfloat16
def test_a_training_in_bfloat16_learns_where_kernels_reach_past_the_image(tmp_path: Path, data: Dataset) -> None:
    """2x2 pixels, kernels of 5 and 7, 128 channels: where torch's weight gradients hold rubbish (REFERENCES.md)."""
    branches = [a.Branch(name=f"b{i}", operation=op, channels=64) for i, op in enumerate(("5x5", "7x7sep"))]
    narrow = a.MacroArchitecture(
        stem=(a.ConvStep(channels=16), a.PoolStep(), a.ConvStep(channels=128), a.PoolStep()),
        stages=(a.Stage(name="s", layers=(a.Layer(name="l", branches=tuple(branches)),)),),
        head=(a.GlobalPoolStep(), a.DenseStep()),
    )
    training = Training(batch_size=64, precision="bfloat16", schedule=OneCycle(rate=0.05))
    result = TorchTrainer().train(
        job_in(tmp_path / "0", architecture=narrow, training=training, budget=Budget(epochs=10)), data
    )
    assert result.accuracy > 0.7


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({("float32", 8): 1.0, ("bfloat16", 8): 0.85, ("float32", 4): 0.85, ("float32", 1): 3.0}, ("float32", 8)),
        ({("float32", 8): 1.0, ("bfloat16", 8): 0.7, ("float32", 4): 0.75, ("float32", 1): 3.0}, ("bfloat16", 8)),
        ({("float32", 8): 1.0, ("bfloat16", 8): 1.5, ("float32", 4): 0.8, ("float32", 1): 0.4}, ("float32", 1)),
    ],
)
def test_what_is_much_faster_is_taken(
    seconds: Mapping[tuple[str, int], float], expected: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        trainer, "step_seconds", lambda _module, _training, _device, rules: {w: seconds[w] for w in rules}
    )
    monkeypatch.setattr(trainer, "worthwhile_dtypes", lambda _: ["float32", "bfloat16"])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    graph = lower(network(), (1, 8, 8), 10)
    found = TorchTrainer().measure(graph, PLAIN.model_copy(update={"precision": "auto"}), {})
    assert (found["dtype"], found["threads"], found["step_seconds"]) == (*expected, seconds[expected])


def test_a_measurement_changes_no_setting_and_no_random_number() -> None:
    graph: Graph = lower(network(), (1, 8, 8), 10)
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    found = TorchTrainer().measure(graph, Training(batch_size=16), {"threads": 2, "dtype": "bfloat16"})
    assert (found["threads"], found["dtype"], torch.get_num_threads()) == (2, "bfloat16", 1)
    assert torch.equal(torch.rand(2), expected)


# ---------------------------------------------------------------------------------------------------------- ending in failure
class Broken(Dataset):
    """Digits until an image cannot be read."""

    streamed = True

    def __init__(self) -> None:
        super().__init__(DIGITS)
        self.whole = datasets.load(DIGITS)
        self.info_ = self.whole.info

    @property
    def info(self) -> Any:
        return self.info_

    def arrays(self, split: Split) -> tuple[Images, Labels]:
        raise AssertionError("a stream has no arrays")

    def batches(self, split: Split, size: int, *, seed: int | None = None) -> Iterator[tuple[Images, Labels]]:
        yield next(self.whole.batches(split, size, seed=seed))
        raise DataError("x.png is no image: replace it")


def test_data_that_cannot_be_read_end_the_trial(tmp_path: Path) -> None:
    with pytest.raises(TrialFailure, match=r"x\.png is no image") as failure:
        TorchTrainer().train(job_in(tmp_path / "0"), Broken())
    assert failure.value.kind == "data"


def test_a_failed_allocation_ends_the_trial(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(self: Loop, *batch: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 62, dtype=torch.uint8)

    monkeypatch.setattr(Loop, "_step", hungry)
    with pytest.raises(TrialFailure, match="memory") as failure:
        TorchTrainer().train(job_in(tmp_path / "0"), data)
    assert failure.value.kind == "out_of_memory"


def test_any_other_error_of_torch_is_a_bug_and_keeps_its_traceback(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "_step", lambda self, *batch: batch[0] @ batch[1])
    with pytest.raises(RuntimeError, match="size"):
        TorchTrainer().train(job_in(tmp_path / "0"), data)


def test_a_network_that_breaks_at_the_very_last_step_is_found_out(
    tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop._step

    def last(self: Loop, *batch: torch.Tensor) -> torch.Tensor:
        loss = step(self, *batch)
        self.parameters[-1].data.fill_(math.nan)
        return loss

    monkeypatch.setattr(Loop, "_step", last)
    with pytest.raises(TrialFailure, match="validation split is nan after step 1") as failure:
        TorchTrainer().train(job_in(tmp_path / "0", architecture=without_auxiliaries(), budget=Budget(steps=1)), data)
    assert failure.value.kind == "nan"


def without_auxiliaries() -> a.MacroArchitecture:
    return network().model_copy(update={"auxiliaries": ()})


def test_progress_is_told(tmp_path: Path, data: Dataset) -> None:
    told: list[Progress] = []
    TorchTrainer().train(job_in(tmp_path / "0", number=3), data, lambda progress: not told.append(progress))
    assert [progress.step for progress in told] == list(range(1, 9))
    assert all(p.number == 3 and p.steps == 8 and (p.images_per_second or 0.0) > 0.0 for p in told)
    assert all(p.loss is not None and math.isfinite(p.loss) for p in told)

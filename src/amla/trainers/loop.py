"""The training loop, as far as it belongs to no library: what happens between two steps, and when it ends.

It reads top to bottom. A library's own loop says how a step is made and how a network is measured.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

from amla import artifacts
from amla.datasets.base import Dataset
from amla.errors import TrialFailure
from amla.spec.costs import costs
from amla.spec.graph import Graph, weights
from amla.spec.statistics import agreement
from amla.spec.trial import Cost, Job, Point, Progress, Result, Snapshot, Statistics
from amla.trainers import switched
from amla.trainers.base import Reporter
from amla.trainers.checkpoint import MODEL, STATE, Counters
from amla.trainers.schedules import learning_rate
from amla.trainers.surgery import Arrays

#: Seconds between two checkpoints, and between two reports.
CHECKPOINT, REPORT = 30.0, 0.25
#: Steps between two looks whether the loss is still a number.
CHECK = 20
#: Evaluations during a training: at most so many, and at most this share of its images (one costs a third of a step's).
EVALUATIONS, EVALUATION_SHARE = 10, 0.05
#: Points of the learning curve, evaluated ones among them.
POINTS = 40
#: Share of the seconds that a trial may take after which its pace is believed.
BELIEVED = 0.1


class BatchStream(Protocol):
    """The training split as an endless row of batches: called with a step, it goes on from there."""

    count: int  # images of the split
    size: int  # images of a batch
    per_epoch: int  # batches of a pass

    def __call__(self, first: int) -> Iterator[Any]: ...


class Loop(ABC):
    """One trial's training, from the step where its counters stand to the end of its budget.

    ``losses``: those since the last point of the learning curve, as scalars of the library, which need not be known yet.
    """

    def __init__(
        self, job: Job, data: Dataset, counters: Counters, losses: list[Any], batches: BatchStream, report: Reporter
    ) -> None:
        self.job, self.data, self.counters, self.losses = job, data, counters, losses
        self.batches, self.report = batches, report
        self.training = job.spec.training
        self.asked = job.spec.budget.in_steps(batches.count, self.training.batch_size)
        self.length, self.horizon_seconds = self._length()
        self._cut(counters.cut)
        self.began = time.perf_counter() - counters.seconds

    # ------------------------------------------------------------------------------------------------- what a library does
    @abstractmethod
    def _step(self, *batch: Any) -> Any:
        """One optimizer step at the rate of ``_rate``; answers the loss, a scalar of the library."""

    @abstractmethod
    def _mean_loss(self) -> float:
        """The mean of ``losses``."""

    @abstractmethod
    def _measured(self) -> tuple[float, float]:
        """(accuracy in [0, 1], mean cross-entropy) on the validation split, of the network that would be evaluated now."""

    @abstractmethod
    def _weights(self) -> Arrays:
        """All tensors of that network, in the layout of ``spec.graph.weights``."""

    @abstractmethod
    def _statistics(self) -> Statistics:
        """What the instruments say so far."""

    @abstractmethod
    def _switched_off(self) -> Statistics:
        """What the loss would rise by now without each branch, see ``trainers.switched``."""

    @abstractmethod
    def _save(self) -> None:
        """Write a checkpoint."""

    # ---------------------------------------------------------------------------------------------------------------- the loop
    def run(self) -> None:
        """Train to the end of the budget. Errors: ``TrialFailure`` (nan, cancelled)."""
        counters = self.counters
        batches = self.batches(counters.step)
        reported = saved = time.perf_counter()
        while not self._over():
            loss = self._step(*next(batches))
            counters.step += 1
            counters.position += 1
            now = time.perf_counter()
            counters.seconds = now - self.began
            self._after(counters.step, loss)
            if self._just_read() or now - reported > REPORT:  # each reading is told: early stopping counts them
                reported = now
                self._tell(loss)
            if now - saved > CHECKPOINT and not self._over():
                self._must_be_finite(loss)
                self._save()
                saved = time.perf_counter()
        if self.losses:
            self._must_be_finite(self.losses[-1])  # which waits for a device that works behind our back
            counters.seconds = max(counters.seconds, time.perf_counter() - self.began)

    def end(self, graph: Graph, device: str) -> Result:
        """What is left behind, and the result. Errors: ``TrialFailure`` (nan)."""
        counters = self.counters
        began = time.perf_counter()
        accuracy, loss = self._measured()
        statistics = self._looked()
        evaluate_seconds = counters.evaluate_seconds + time.perf_counter() - began
        if not math.isfinite(loss):
            raise TrialFailure("nan", f"the loss on the validation split is {loss} after step {counters.step}")
        names = {weight.name for weight in weights(graph.inference())}
        kept = {name: value for name, value in self._weights().items() if name in names}
        artifacts.write(self.job.folder, MODEL, artifacts.pack(kept))
        counters.finished = True
        self._save()
        found = costs(graph)
        return Result(
            metrics={"valid": {"accuracy": accuracy, "loss": loss}},
            statistics=statistics,
            snapshots=tuple(counters.snapshots),
            curve=tuple(counters.curve),
            parameters=found.parameters,
            flops=found.flops,
            size_mb=found.size_mb,
            position=counters.position,
            cost=Cost(
                seconds=counters.seconds + evaluate_seconds,
                train_seconds=counters.seconds,
                evaluate_seconds=evaluate_seconds,
                steps=counters.step,
                images=counters.step * self.batches.size,
                device=device,
            ),
            artifacts={"model": MODEL, "state": STATE},
        )

    def _length(self) -> tuple[float, float | None]:
        """The length of the schedule, in steps; where it is given in seconds, those (the first number means nothing then).

        Without a horizon of its own, the schedule ends where this trial does.
        """
        counters, own = self.counters, self.job.spec.horizon
        length = own or self.job.spec.budget
        steps = length.in_steps(self.batches.count, self.training.batch_size)
        if steps is None:
            return 0.0, (length.seconds or 0.0) + (0.0 if own else counters.seconds_before)
        return steps + (0 if own else counters.position - counters.step), None

    def _rate(self) -> float:
        counters, total = self.counters, self.horizon
        if self.horizon_seconds is not None:
            share = min(1.0, (counters.seconds_before + self._clock()) / self.horizon_seconds)
            # as many steps as there would be at the speed so far
            total = counters.position / share if share > 0.0 else math.inf
        return learning_rate(self.training, counters.position, total, self.batches.per_epoch)

    def _over(self) -> bool:
        counters = self.counters
        if counters.step and self._settled():
            return True
        if self.steps is None:
            return self._clock() >= (self.job.spec.budget.seconds or 0.0)
        within = self.job.spec.within
        return counters.step >= self.steps or (within is not None and self._clock() >= within)

    def _cut(self, steps: int) -> None:
        """Leave out the last so many steps of the budget, and as many of the schedule."""
        self.counters.cut = steps
        self.steps = None if self.asked is None else self.asked - steps
        self.horizon = self.length - steps
        self.marks = self._marks()

    def _fit_within(self) -> None:
        """Where the trial may take so many seconds only: as many of its steps as there is time for at the pace so far.

        The pace is that since the first point of the curve: what comes before the first step may take long.
        """
        counters, within, clock = self.counters, self.job.spec.within, self._clock()
        if within is None or self.asked is None or len(counters.curve) < 2 or clock < BELIEVED * within:
            return
        first = counters.curve[0]
        pace = (clock - first.seconds) / (counters.position - first.step)
        affordable = counters.step + max(0, int((within - clock) / pace))
        self._cut(max(0, self.asked - affordable))

    def _clock(self) -> float:
        """Seconds of this trial that count against a budget in seconds: readings of the validation split are part of them."""
        return self.counters.seconds + self.counters.evaluate_seconds

    # -------------------------------------------------------------------------------------------------------- between steps
    def _after(self, step: int, loss: Any) -> None:
        self.losses.append(loss)
        if step % CHECK == 0:
            self._must_be_finite(loss)
        if self.steps is None:
            if self._reached((len(self.counters.curve) + 1) / POINTS) and not self._over():
                self._point(self._evaluate() if self._affordable() else None)
        elif step in self.marks:
            self._point(self._evaluate() if self.marks[step] else None)
            self._fit_within()
        snapshots, wanted = self.counters.snapshots, sorted(self.job.spec.snapshots)
        while len(snapshots) < len(wanted) and self._reached(wanted[len(snapshots)]):
            with self._aside():
                snapshots.append(Snapshot(step=step, statistics=self._looked()))
        settle = self.job.spec.settle
        if settle and step % settle.every == 0:
            read = self._statistics()
            ranking = {block: values[settle.statistic] for block, values in read.items() if settle.statistic in values}
            self.counters.looks.append(ranking)

    def _just_read(self) -> bool:
        """Whether validation was read after this very step."""
        last = self.counters.curve[-1] if self.counters.curve else None
        return last is not None and last.accuracy is not None and last.step == self.counters.position

    def _reached(self, share: float) -> bool:
        """Whether this share of the budget is used."""
        counters = self.counters
        if self.steps is not None:
            return counters.step >= max(1, round(share * self.steps))
        return self._clock() >= share * (self.job.spec.budget.seconds or 0.0)

    def _affordable(self) -> bool:
        """Whether one more reading of the validation split keeps all of them within their share of the seconds so far."""
        counters = self.counters
        readings = sum(point.accuracy is not None for point in counters.curve)
        expected = counters.evaluate_seconds * (readings + 1) / max(1, readings)
        return readings < EVALUATIONS and expected <= EVALUATION_SHARE * self._clock()

    def _settled(self) -> bool:
        """Whether the last looks at the ranking agree (off unless the trial has ``settle``)."""
        settle, looks = self.job.spec.settle, self.counters.looks
        if settle is None or len(looks) <= settle.looks:
            return False
        recent = looks[-settle.looks - 1 :]
        taus = [agreement(one, two) for one, two in itertools.pairwise(recent)]
        return all(tau is not None and tau > settle.tau for tau in taus)

    def _marks(self) -> dict[int, bool]:
        """Steps at which the learning curve gets a point, and whether the validation split is read there.

        They follow from the steps alone, not from the clock, so that a result does not depend on the machine's speed.
        """
        if self.steps is None:
            return {}
        points = min(POINTS, self.steps)
        marks = {round(self.steps * i / points): False for i in range(1, points + 1)}
        trained = self.steps * self.batches.size
        affordable = int(3 * EVALUATION_SHARE * trained / max(1, self.data.info.sizes["valid"]))
        evaluations = min(EVALUATIONS, affordable, points)
        for i in range(1, evaluations):
            place = round(self.steps * i / evaluations)
            marks[min(marks, key=lambda step, place=place: abs(step - place))] = True  # type: ignore[misc]
        return marks

    def _point(self, accuracy: float | None) -> None:
        counters = self.counters
        loss = self._mean_loss()
        self.losses.clear()
        if not math.isfinite(loss):
            raise TrialFailure("nan", f"the loss is not a number any more at step {counters.step}")
        counters.curve.append(
            Point(step=counters.position, seconds=round(counters.seconds, 3), loss=loss, accuracy=accuracy)
        )

    def _evaluate(self) -> float:
        with self._aside():
            accuracy, _ = self._measured()
        return accuracy

    def _looked(self) -> Statistics:
        """What all instruments say now, those that take passes of their own among them."""
        read = self._statistics()
        if switched.NAME not in self.job.spec.instruments:
            return read
        found = self._switched_off()
        return {block: read.get(block, {}) | found.get(block, {}) for block in found | read}

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """What is evaluated: the clock of the training stands still meanwhile."""
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        self.counters.evaluate_seconds += took
        self.began += took

    def _must_be_finite(self, loss: Any) -> None:
        if not math.isfinite(float(loss)):
            raise TrialFailure("nan", f"the loss is {float(loss)} at step {self.counters.step}")

    def _tell(self, loss: Any) -> None:
        counters = self.counters
        read = next((point for point in reversed(counters.curve) if point.accuracy is not None), None)
        told = Progress(
            number=self.job.number,
            step=counters.step,
            steps=self.steps,
            loss=float(loss),
            accuracy=read.accuracy if read else None,
            accuracy_step=read.step if read else None,
            images_per_second=counters.step * self.batches.size / max(counters.seconds, 1e-9),
        )
        if not self.report(told):
            self._must_be_finite(loss)
            self._save()
            raise TrialFailure("cancelled", f"stopped at step {counters.step}; the checkpoint is kept")

"""The training loop. It reads top to bottom: what happens at a step, and what happens between steps."""

from __future__ import annotations

import itertools
import math
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from amla.datasets.base import Dataset
from amla.errors import TrialFailure
from amla.spec.statistics import agreement
from amla.spec.trial import Job, Point, Progress, Snapshot
from amla.trainers.base import Reporter
from amla.trainers.schedules import learning_rate
from amla.trainers.torch.data import Batches
from amla.trainers.torch.evaluation import evaluated, measured_on
from amla.trainers.torch.optim import clip, set_rate
from amla.trainers.torch.state import State, save

#: Seconds between two checkpoints, and between two reports.
CHECKPOINT, REPORT = 30.0, 0.25
#: Steps between two looks whether the loss is still a number.
CHECK = 20
#: Evaluations during a training: at most so many, and at most this share of its images (one costs a third of a step's).
EVALUATIONS, EVALUATION_SHARE = 10, 0.05
#: Points of the learning curve, evaluated ones among them.
POINTS = 40


class Loop:
    """One trial's training, from the step where its state stands to the end of its budget."""

    def __init__(self, job: Job, data: Dataset, state: State, batches: Batches, dtype: str, report: Reporter) -> None:
        self.job, self.data, self.state, self.batches, self.report = job, data, state, batches, report
        self.training = job.spec.training
        self.bfloat16 = dtype == "bfloat16"
        self.device = batches.device
        self.steps = job.spec.budget.in_steps(batches.count, self.training.batch_size)
        self.horizon, self.horizon_seconds = self._horizon()
        self.parameters = list(state.module.parameters())
        self.marks = self._marks()
        self.began = time.perf_counter() - state.counters.seconds

    def run(self) -> None:
        """Train to the end of the budget. Errors: ``TrialFailure`` (nan, cancelled)."""
        counters = self.state.counters
        batches = self.batches(counters.step)
        reported = saved = time.perf_counter()
        self.state.module.train()
        while not self._over():
            images, labels = next(batches)
            loss = self._step(images, labels)
            counters.step += 1
            counters.position += 1
            now = time.perf_counter()
            counters.seconds = now - self.began
            self._after(counters.step, loss)
            if now - reported > REPORT:
                reported = now
                self._tell(loss)
            if now - saved > CHECKPOINT and not self._over():
                self._must_be_finite(loss)
                save(self.state, self.job.folder)
                saved = time.perf_counter()
        if self.state.losses:
            self._must_be_finite(self.state.losses[-1])

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        state, training = self.state, self.training
        state.instruments.listen(state.module, state.counters.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, auxiliaries = state.module(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=training.label_smoothing)
        for other in auxiliaries:
            auxiliary = F.cross_entropy(other.float(), labels, label_smoothing=training.label_smoothing)
            loss = loss + training.auxiliary_weight * auxiliary
        loss.backward()
        if training.clip:
            clip(self.parameters, training.clip)
        set_rate(state.optimizer, self._rate())
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.average:
            state.average.update(state.module)
        return loss.detach()

    def _horizon(self) -> tuple[float, float | None]:
        """The length of the schedule, in steps; where it is given in seconds, those (the first number means nothing then).

        Without a horizon of its own, the schedule ends where this trial does.
        """
        counters, own = self.state.counters, self.job.spec.horizon
        length = own or self.job.spec.budget
        steps = length.in_steps(self.batches.count, self.training.batch_size)
        if steps is None:
            return 0.0, (length.seconds or 0.0) + (0.0 if own else counters.seconds_before)
        return steps + (0 if own else counters.position - counters.step), None

    def _rate(self) -> float:
        counters, total = self.state.counters, self.horizon
        if self.horizon_seconds is not None:
            share = min(1.0, (counters.seconds_before + self._clock()) / self.horizon_seconds)
            # as many steps as there would be at the speed so far
            total = counters.position / share if share > 0.0 else math.inf
        return learning_rate(self.training, counters.position, total, self.batches.per_epoch)

    def _over(self) -> bool:
        counters = self.state.counters
        if counters.step and self._settled():
            return True
        if self.steps is not None:
            return counters.step >= self.steps
        return self._clock() >= (self.job.spec.budget.seconds or 0.0)

    def _clock(self) -> float:
        """Seconds of this trial that count against a budget in seconds: readings of the validation split are part of them."""
        return self.state.counters.seconds + self.state.counters.evaluate_seconds

    # -------------------------------------------------------------------------------------------------------- between steps
    def _after(self, step: int, loss: Tensor) -> None:
        self.state.losses.append(loss)
        if step % CHECK == 0:
            self._must_be_finite(loss)
        if self.steps is None:
            counters = self.state.counters
            if self._reached((len(counters.curve) + 1) / POINTS) and not self._over():
                self._point(self._evaluate() if self._affordable() else None)
        elif step in self.marks:
            self._point(self._evaluate() if self.marks[step] else None)
        snapshots, wanted = self.state.counters.snapshots, sorted(self.job.spec.snapshots)
        while len(snapshots) < len(wanted) and self._reached(wanted[len(snapshots)]):
            snapshots.append(Snapshot(step=step, statistics=self.state.statistics()))
        settle = self.job.spec.settle
        if settle and step % settle.every == 0:
            read = self.state.statistics()
            ranking = {block: values[settle.statistic] for block, values in read.items() if settle.statistic in values}
            self.state.counters.looks.append(ranking)

    def _reached(self, share: float) -> bool:
        """Whether this share of the budget is used."""
        counters = self.state.counters
        if self.steps is not None:
            return counters.step >= max(1, round(share * self.steps))
        return self._clock() >= share * (self.job.spec.budget.seconds or 0.0)

    def _affordable(self) -> bool:
        """Whether one more reading of the validation split keeps all of them within their share of the seconds so far."""
        counters = self.state.counters
        readings = sum(point.accuracy is not None for point in counters.curve)
        expected = counters.evaluate_seconds * (readings + 1) / max(1, readings)
        return readings < EVALUATIONS and expected <= EVALUATION_SHARE * self._clock()

    def _settled(self) -> bool:
        """Whether the last looks at the ranking agree (off unless the trial has ``settle``)."""
        settle, looks = self.job.spec.settle, self.state.counters.looks
        if settle is None or len(looks) <= settle.looks:
            return False
        recent = looks[-settle.looks - 1 :]
        taus = [agreement(one, two) for one, two in itertools.pairwise(recent)]
        return all(tau is not None and tau > settle.tau for tau in taus)

    def _marks(self) -> dict[int, bool]:
        """Steps at which the learning curve gets a point, and whether the validation split is read there.

        They follow from the budget alone, never from the clock, so that a result does not depend on the machine's speed.
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
        counters = self.state.counters
        loss = float(torch.stack(self.state.losses).mean())
        self.state.losses = []
        if not math.isfinite(loss):
            raise TrialFailure("nan", f"the loss is not a number any more at step {counters.step}")
        counters.curve.append(
            Point(step=counters.position, seconds=round(counters.seconds, 3), loss=loss, accuracy=accuracy)
        )

    def _evaluate(self) -> float:
        began = time.perf_counter()
        accuracy, _ = measured_on(evaluated(self.state), self.data, "valid", self.device)
        took = time.perf_counter() - began
        self.state.counters.evaluate_seconds += took
        self.began += took  # the clock of the training stands still meanwhile
        return accuracy

    def _must_be_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise TrialFailure("nan", f"the loss is {float(loss)} at step {self.state.counters.step}")

    def _tell(self, loss: Tensor) -> None:
        counters = self.state.counters
        accuracy = next((point.accuracy for point in reversed(counters.curve) if point.accuracy is not None), None)
        told = Progress(
            number=self.job.number,
            step=counters.step,
            steps=self.steps,
            loss=float(loss),
            accuracy=accuracy,
            images_per_second=counters.step * self.batches.size / max(counters.seconds, 1e-9),
        )
        if not self.report(told):
            self._must_be_finite(loss)
            save(self.state, self.job.folder)
            raise TrialFailure("cancelled", f"stopped at step {counters.step}; the checkpoint is kept")

"""The Keras trainer: the shipped suite, and what is special about Keras."""

import pytest

from amla.testing.trainers import TrainerSuite
from amla.trainers import loop
from amla.trainers.base import Trainer
from amla.trainers.keras.instruments import PROVIDED
from amla.trainers.keras.trainer import KerasTrainer


@pytest.fixture(autouse=True)
def _report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite stops at a given step; a short training is otherwise over before the first report."""
    monkeypatch.setattr(loop, "REPORT", 0.0)


class TestKerasTrainer(TrainerSuite):
    instruments = tuple(sorted(PROVIDED))

    def trainer(self) -> Trainer:
        return KerasTrainer()

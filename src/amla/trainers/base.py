"""The contract of a trainer: one ML library, behind documents and numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from amla.datasets.base import Dataset, Images
from amla.errors import SearchError
from amla.spec.data import DatasetInfo, Split
from amla.spec.experiment import Problem
from amla.spec.graph import Graph
from amla.spec.training import Budget, Training
from amla.spec.trial import Job, Progress, Result

#: Called now and then with what is going on; answers False where the training is to stop (a checkpoint is left).
Reporter = Callable[[Progress], bool]
Floats = npt.NDArray[np.float32]


def silent(progress: Progress) -> bool:  # noqa: ARG001  # a reporter takes what it is told
    """A reporter that tells nobody."""
    return True


class Trainer(ABC):
    """Builds, trains and measures networks in one ML library.

    A trial's folder holds, after ``train``: ``model.safetensors`` (the weights that are evaluated, in the layout of
    ``spec.graph.weights``), ``state.safetensors`` (the whole train state, from which a trial resumes or another inherits)
    and ``architecture.json``. All files are written whole or not at all.
    """

    #: Instruments (keys of ``spec.trial.INSTRUMENTS``) and procedures (``train``, ``evaluate``, ``score``, ...) it has.
    provides: frozenset[str]
    #: Whether it trains on images and leaves weights. False: it looks networks up in a table, and needs a dataset that is one.
    trains: ClassVar[bool] = True
    #: The only budgets that a trial may have, the shortest first; () where any will do.
    fidelities: ClassVar[tuple[Budget, ...]] = ()
    #: Forms (exporters) that a run with this trainer leaves behind beside those that every run does.
    exports: ClassVar[tuple[str, ...]] = ()

    def check(self, problem: Problem) -> None:  # noqa: B027  # most trainers take whatever a problem asks
        """Errors: ``ConfigError`` where it cannot do what the problem asks, before anything runs."""

    def require(self, job: Job, name: str, elsewhere: str = "") -> None:
        """Errors: ``SearchError`` where a training asks for an instrument or a procedure that it has not; ``name``: its own,
        ``elsewhere``: where it may be had."""
        lacking = sorted({*job.spec.instruments, job.spec.procedure} - (self.provides - {"evaluate"}))
        if lacking:
            raise SearchError(f"the trainer {name!r} has no {', '.join(lacking)}{elsewhere}")

    @abstractmethod
    def train(self, job: Job, data: Dataset, report: Reporter = silent) -> Result:
        """Run the job's procedure. A job whose folder holds a checkpoint goes on from there, to the same result.

        Errors: ``TrialFailure`` (NaN, out of memory, bad data; ``cancelled`` where ``report`` said stop).
        """

    @abstractmethod
    def evaluate(self, job: Job, data: Dataset, split: Split) -> Result:
        """Accuracy and loss, on one split, of ``model.safetensors`` in the job's ``parent_folder`` (its own where it has
        no parent). Changes nothing. Errors: ``TrialFailure``."""

    @abstractmethod
    def predict(self, graph: Graph, weights: Mapping[str, Floats], info: DatasetInfo, images: Images) -> Floats:
        """Class probabilities (n, classes) of raw images (n, height, width, channels), as the dataset gives them."""

    @abstractmethod
    def measure(self, graph: Graph, training: Training, measured: Mapping[str, JsonValue]) -> dict[str, Any]:
        """A short measurement on this machine, on made-up images: what is fastest here, and how fast.

        Returns ``dtype`` and ``threads`` (kept where ``measured`` has them already), ``step_seconds`` (one training step),
        ``evaluate_seconds`` (one image), ``device``, and, where it counts, ``start_seconds`` (what comes before the first step
        of a network: compiling it); and what else was measured, for its own jobs to read.
        """

"""``run_job``: one job, here and now. Every executor comes down to it, so a trial gives the same result everywhere."""

from __future__ import annotations

import functools
import time
from typing import cast

from amla import artifacts, datasets, registry
from amla.datasets.base import Dataset
from amla.errors import DataError, TrialFailure
from amla.spec.data import DatasetSpec, Split
from amla.spec.trial import Failure, Job, Result
from amla.trainers.base import Reporter, Trainer, silent

RESULT = "result.json"


def run_job(job: Job, report: Reporter = silent) -> Result:
    """Run a job and leave its ``result.json``. A job that has left one for this attempt is not run again.

    A training that ends badly comes back as a result with its failure, but is left without a file where it was cancelled,
    so that it can go on. Anything unforeseen is raised.
    """
    known = stored_result(job)
    if known is not None:
        return known
    began = time.perf_counter()
    try:
        result = _run(job, report)
    except TrialFailure as failure:
        result = Result(failure=Failure(kind=failure.kind, reason=failure.reason))
    except DataError as error:
        result = Result(failure=Failure(kind="data", reason=str(error)))
    if not result.cost.seconds:
        cost = result.cost.model_copy(update={"seconds": time.perf_counter() - began})
        result = result.model_copy(update={"cost": cost})
    if result.failure is None or result.failure.kind != "cancelled":
        artifacts.write(job.folder, RESULT, result.to_json().encode())
        artifacts.write_json(job.folder, "attempt.json", job.attempt)
    return result


def stored_result(job: Job) -> Result | None:
    """The result that this attempt at a job has left; None where it has not ended."""
    content = artifacts.read(job.folder, RESULT)
    if content is None or artifacts.read_json(job.folder, "attempt.json") != job.attempt:
        return None
    return Result.from_json(content)


def _run(job: Job, report: Reporter) -> Result:
    trainer: Trainer = registry.load("trainers", job.trainer)()
    data = _dataset(job.dataset)
    if job.spec.procedure == "evaluate":
        return trainer.evaluate(job, data, cast(Split, job.spec.settings["split"]))
    return trainer.train(job, data, report)


@functools.lru_cache(maxsize=2)
def _dataset(spec: DatasetSpec) -> Dataset:
    """A loaded dataset; the trials of an experiment all use the same one."""
    return datasets.load(spec)

"""``run_job``: one job, here and now. Every executor comes down to it, so a trial gives the same result everywhere."""

from __future__ import annotations

import functools
import time
from typing import cast

from amla import artifacts, datasets, registry
from amla.datasets.base import Dataset
from amla.errors import DataError, SpecError, TrialFailure
from amla.executors.folder import claimed
from amla.exporters.base import Model
from amla.spec.data import DatasetSpec, Split
from amla.spec.trial import Failure, Job, Result
from amla.trainers.base import Reporter, Trainer, silent

RESULT, ATTEMPT = "result.json", "attempt.json"


def run_job(job: Job, report: Reporter = silent) -> Result:
    """Run a job and leave its ``result.json``. A job that has left one for this attempt is not run again.

    A training that ends badly comes back as a result with its failure, but is left without a file where it was cancelled,
    so that it can go on. Anything unforeseen is raised. Errors: ``Busy`` where another process runs it.
    """
    with claimed(job.folder):
        known = stored_result(job.folder, job.attempt)
        if known is not None:
            return known
        began = time.perf_counter()
        result = _with_measures(job, _run(job, report))
        if not result.cost.seconds:
            cost = result.cost.model_copy(update={"seconds": time.perf_counter() - began})
            result = result.model_copy(update={"cost": cost})
        if result.failure is None or result.failure.kind != "cancelled":
            # The attempt last: a result counts only once it is known whose it is.
            artifacts.write(job.folder, RESULT, result.to_json().encode())
            artifacts.write_json(job.folder, ATTEMPT, job.attempt)
        return result


def stored_result(folder: str, attempt: int) -> Result | None:
    """The result that this attempt has left in a job's folder; None where it has not ended."""
    try:
        if artifacts.read_json(folder, ATTEMPT) != attempt:
            return None
        content = artifacts.read(folder, RESULT)
        return Result.from_json(content) if content else None
    except (ValueError, SpecError):  # cut off by a power failure: it did not end
        return None


def _run(job: Job, report: Reporter) -> Result:
    """Whatever the trainer finds wrong with the trial is part of the result."""
    try:
        trainer: Trainer = registry.load("trainers", job.trainer)()
        data = _dataset(job.dataset)
        if job.spec.procedure == "evaluate":
            return trainer.evaluate(job, data, cast(Split, job.spec.settings["split"]))
        return trainer.train(job, data, report)
    except TrialFailure as failure:
        return Result(failure=Failure(kind=failure.kind, reason=failure.reason))
    except DataError as error:
        return Result(failure=Failure(kind="data", reason=str(error)))
    except MemoryError as error:
        return Result(failure=Failure(kind="out_of_memory", reason=str(error) or "the machine has no memory left"))


def _with_measures(job: Job, result: Result) -> Result:
    """The result with what was to be measured of the network besides, on the machine that trained it."""
    if "latency_ms" not in job.measures or result.failure is not None or job.spec.purpose == "test":
        return result
    from amla.exporters.latency import latency_ms

    model = Model(architecture=job.spec.architecture, data=_dataset(job.dataset).info)
    return result.model_copy(update={"latency_ms": latency_ms(model, job.resources.threads or 1)})


@functools.lru_cache(maxsize=2)
def _dataset(spec: DatasetSpec) -> Dataset:
    """A loaded dataset; the trials of an experiment all use the same one."""
    return datasets.load(spec)

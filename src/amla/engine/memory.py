"""A whole search in memory: the planner of the engine and its order of events, with no store, no folder and no process.

For trainers that only look networks up, where storing would cost more than the search.
"""

from __future__ import annotations

import heapq

from amla.datasets.base import Dataset
from amla.engine.planning import Ended, Planner
from amla.engine.scheduler import job_of
from amla.errors import SearchError, TrialFailure
from amla.spec.experiment import Experiment, trial_seed
from amla.spec.trial import Failure, Result, Trial, TrialSpec
from amla.trainers.base import Trainer


def play(experiment: Experiment, trainer: Trainer, data: Dataset) -> list[Trial]:
    """All trials of an experiment, by number: those that the scheduler would store.

    With several ``jobs`` trials end in the order of a clock that counts what they cost, as under the executor ``simulated``.
    Errors: ``SearchError`` where the search cannot go on or finds nothing.
    """
    planner = Planner(experiment)
    trials: list[Trial] = []
    results: dict[int, Result] = {}
    running: list[tuple[float, int]] = []
    clock, ended = 0.0, 0
    while True:
        while len(running) < experiment.spec.jobs:
            following = planner.next(trials)
            if isinstance(following, Ended):
                if following.state == "failed":
                    raise SearchError(f"{experiment.id}: {following.reason}")
                return trials
            if following is None:
                break
            trial = _begun(experiment, len(trials), following)
            trials.append(trial)
            results[trial.number] = _run(experiment, trial, trainer, data)
            heapq.heappush(running, (clock + results[trial.number].cost.seconds, trial.number))
        clock, number = heapq.heappop(running)
        trials[number] = _ended(trials[number], results.pop(number), ended)
        ended += 1


def _begun(experiment: Experiment, number: int, spec: TrialSpec) -> Trial:
    return Trial(number=number, seed=trial_seed(experiment.spec.seed, number), state="running", spec=spec)


def _run(experiment: Experiment, trial: Trial, trainer: Trainer, data: Dataset) -> Result:
    job = job_of(experiment, trial)
    try:
        if trial.spec.procedure == "evaluate":
            return trainer.evaluate(job, data, "test")
        return trainer.train(job, data)
    except TrialFailure as failure:
        return Result(failure=Failure(kind=failure.kind, reason=failure.reason))


def _ended(trial: Trial, result: Result, place: int) -> Trial:
    state = "failed" if result.failure else "done"
    return trial.model_copy(update={"state": state, "result": result, "finished_seq": place})

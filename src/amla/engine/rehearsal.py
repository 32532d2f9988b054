"""A rehearsal: a searcher run to its end on made-up results. It tells which networks a search is going to train and for
how long, before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from amla import registry
from amla.errors import ConfigError, SpecError
from amla.searchers.base import Searcher
from amla.spaces.base import decisions_of_supernet, space_of
from amla.spaces.limits import excess
from amla.spec.costs import costs
from amla.spec.experiment import ExperimentSpec, Problem, trial_seed
from amla.spec.lower import lower
from amla.spec.procedures import STRENGTH, EnasSettings, ScoreSettings
from amla.spec.trial import INSTRUMENTS, Candidate, Result, Snapshot, Trial, TrialSpec

#: Networks that a made-up trial finds, of so many that it draws.
CANDIDATES, DRAWN = 3, 60


def drawn_result(spec: TrialSpec, seed: int, problem: Problem, position: int = 0) -> Result:
    """A result as a trainer gives it, all numbers drawn from ``seed``: scores, if these were asked for; else every
    instrument's statistics of every block."""
    rng = np.random.default_rng(seed)
    graph = lower(spec.architecture, problem.input_shape, problem.num_classes)
    names = [*(name for names in INSTRUMENTS.values() for name in names), STRENGTH]

    def statistics() -> dict[str, dict[str, float]]:
        return {block.name: {name: float(rng.random()) for name in names} for block in graph.blocks}

    found = costs(graph)
    if spec.procedure == "score":
        scores = {score: float(rng.random()) for score in ScoreSettings.parse(spec.settings).scores}
        return Result(scores=scores, parameters=found.parameters, flops=found.flops, size_mb=found.size_mb)
    steps = spec.budget.in_steps(problem.train_size, problem.training.batch_size) or 1
    return Result(
        metrics={"valid": {"accuracy": float(rng.random()), "loss": float(rng.random())}},
        statistics=statistics(),
        candidates=_drawn_candidates(spec, rng),
        snapshots=(Snapshot(step=steps // 2, statistics=statistics()),),
        parameters=found.parameters,
        flops=found.flops,
        size_mb=found.size_mb,
        position=position + steps,
    )


def _drawn_candidates(spec: TrialSpec, rng: np.random.Generator) -> tuple[Candidate, ...]:
    """A few networks within the limits, where a procedure finds any."""
    if spec.procedure != "enas":
        return ()
    problem = EnasSettings.parse(spec.settings).problem
    space = space_of(problem)
    options = decisions_of_supernet(space)
    drawn = [
        space.decode({name: own[int(rng.integers(len(own)))] for name, own in options.items()}) for _ in range(DRAWN)
    ]
    fitting = [network for network in drawn if excess(network, problem) is None]
    return tuple(Candidate(architecture=network, accuracy=0.5) for network in fitting[:CANDIDATES])


def make_searcher(spec: ExperimentSpec, problem: Problem) -> Searcher[Any]:
    """The searcher that a spec names, with its settings. Errors: ``ConfigError`` naming a wrong setting."""
    cls = registry.load("searchers", spec.searcher)
    try:
        settings = cls.Settings.parse(spec.settings)
    except SpecError as error:
        raise ConfigError(f"settings of the searcher {spec.searcher!r}: {error}") from None
    searcher: Searcher[Any] = cls(settings, problem)
    return searcher


def rehearse(searcher: Searcher[Any], problem: Problem, most: int = 1000) -> list[Trial]:
    """All trials of a search with one job, the final one last. At most ``most`` search trials."""
    searcher = searcher.understudy()
    trials: list[Trial] = []
    while not searcher.finished and len(trials) < most:
        spec = searcher.suggest([], len(trials))
        if spec is None:
            break
        trials.append(_played(spec, trials, problem))
        searcher.observe(trials[-1:])
    if not any(trial.spec.purpose == "final" for trial in trials):
        final = searcher.final(trials)
        if final is not None:
            trials.append(_played(final, trials, problem))
    return trials


def _played(spec: TrialSpec, before: list[Trial], problem: Problem) -> Trial:
    number = len(before)
    seed = trial_seed(problem.seed, number)
    parent = before[spec.parent].result if spec.parent is not None else None
    result = drawn_result(spec, seed, problem, parent.position if parent else 0)
    return Trial(number=number, seed=seed, state="done", finished_seq=number, spec=spec, result=result)

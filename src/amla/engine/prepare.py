"""``prepare``: from what a user asks for to an experiment in which everything is decided.

What the user left open is chosen to suit the data (size, channels, classes, number of images) and, where a time budget is
given, fitted to it by a short measurement. What was chosen is stored with the experiment, so that resuming it, or running
it on another machine, decides nothing anew.
"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import JsonValue

from amla import registry
from amla.engine.fitting import SEARCH_SHARE, fit, measure
from amla.engine.rehearsal import make_searcher, rehearse
from amla.errors import ConfigError, PluginError, SpecError
from amla.searchers.base import Searcher
from amla.spec.costs import costs
from amla.spec.data import DatasetInfo
from amla.spec.experiment import Experiment, ExperimentSpec, Objective, Problem
from amla.spec.hyperparameters import check_names, probes, tuned
from amla.spec.lower import lower
from amla.spec.objectives import measures
from amla.spec.training import SGD, Augmentation, Budget, Clip, OneCycle, Training
from amla.trainers.base import Trainer

#: Images that a training sees in all, by default: enough for a small set to be learnt, bearable for a large one.
IMAGES = 150_000
EPOCHS = (10, 60)


def prepare(
    spec: ExperimentSpec,
    info: DatasetInfo,
    trainer: Trainer,
    folder: str,
    experiment_id: str,
    final: Trainer | None = None,
) -> Experiment:
    """Decide everything. ``info`` is that of ``spec.dataset``; ``trainer`` the one that ``spec.trainer`` names, ``final`` the
    one that ``spec.final_trainer`` names.

    Errors: ``AmlaError`` in one line for whatever is wrong with the spec, before anything is stored or trained.
    """
    problem = problem_of(spec, info, trainer.fidelities)
    check_problem(registry.load("searchers", spec.searcher), spec.searcher, problem)
    check_budgets(problem, trainer, spec.trainer)
    if spec.time_budget is not None and trainer.trains:
        spec, problem, measured = fit(spec, info, problem, (trainer, final), default_epochs(problem.train_size))
    else:
        check_needs(make_searcher(spec, problem), trainer, spec)  # a measurement may take long
        first = rehearse(make_searcher(spec, problem), problem, most=1)
        for trial in first:
            _check_budget(trial.spec.budget, f"searcher {spec.searcher!r}", trainer, spec.trainer)
        measured = measure(first, problem, trainer, spec.resources.threads)
    searcher = make_searcher(spec, problem)
    check_needs(searcher, trainer, spec)
    if final is not None:
        check_final(searcher, final, spec)
    return Experiment(
        id=experiment_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        problem=problem,
        folder=folder,
        measured=measured,
    )


def new_id(spec: ExperimentSpec) -> str:
    """A short name that nobody else has: dataset, searcher and a few random letters."""
    dataset = spec.dataset.plugin.replace("-", "")
    return f"{dataset}-{spec.searcher.rsplit(':', 1)[-1].lower()}-{uuid.uuid4().hex[:6]}"


def check_needs(searcher: Searcher[Any], trainer: Trainer, spec: ExperimentSpec) -> None:
    """Errors: ``ConfigError`` where the trainer lacks an instrument or a procedure that the searcher reads."""
    _check_provided(searcher.needs | searcher.procedures, trainer, spec.searcher, spec.trainer)


def check_final(searcher: Searcher[Any], trainer: Trainer, spec: ExperimentSpec) -> None:
    """The same of the trainer of the final training, which needs no procedure of the searcher's."""
    _check_provided(searcher.needs, trainer, spec.searcher, str(spec.final_trainer))


def _check_provided(needed: frozenset[str], trainer: Trainer, searcher: str, name: str) -> None:
    lacking = needed - trainer.provides
    if lacking:
        able = [repr(other) for other in registry.names("trainers") if lacking <= _provided(other)]
        hint = f"; {', '.join(able)} has" if able else ""
        raise ConfigError(
            f"the trainer {name!r} has no {', '.join(sorted(lacking))}, which the searcher {searcher!r} needs{hint}"
        )


def _provided(trainer: str) -> frozenset[str]:
    """What a trainer has; nothing where its library is not installed."""
    try:
        provides: frozenset[str] = registry.load("trainers", trainer).provides
    except PluginError:
        return frozenset()
    return provides


def check_budgets(problem: Problem, trainer: Trainer, name: str) -> None:
    """Errors: ``ConfigError`` where the trainer cannot train so long, or not what the problem asks."""
    trainer.check(problem)
    _check_budget(problem.budget, "budget", trainer, name)
    _check_budget(problem.final_budget, "final_budget", trainer, name)


def _check_budget(budget: Budget, whose: str, trainer: Trainer, name: str) -> None:
    if trainer.fidelities and budget not in trainer.fidelities:
        known = " or ".join(f"{fidelity.epochs:g}" for fidelity in trainer.fidelities if fidelity.epochs)
        raise ConfigError(f"{whose}: the trainer {name!r} knows trainings of {known} epochs only")


def check_problem(searcher: type[Searcher[Any]], name: str, problem: Problem) -> None:
    """Errors: ``ConfigError`` where the problem asks for what this searcher does not do, or for a training that there is
    not; ``PluginError`` where a latency cannot be measured here."""
    if problem.hyperparameters and not searcher.tunes:
        raise ConfigError(
            f"hyperparameters: the searcher {name!r} does not search them; 'tpe', 'bayes' and 'random' do"
        )
    if len(problem.objectives) > 1 and not searcher.several_objectives:
        raise ConfigError(f"objectives: the searcher {name!r} takes one only; 'evolution' and 'random' take several")
    metrics = [objective.metric for objective in problem.objectives]
    twice = next((metric for metric in metrics if metrics.count(metric) > 1), None)
    if twice is not None:
        raise ConfigError(f"objectives: {twice} is there twice; say it once")
    if problem.objectives != (Objective(),) and not searcher.any_objective:
        raise ConfigError(
            f"objectives: the searcher {name!r} makes accuracy large and nothing else; limits bound what it may cost"
        )
    check_names(problem.hyperparameters)
    for values in probes(problem.hyperparameters):
        tuned(problem.training, values)
    if measures(problem) and importlib.util.find_spec("onnxruntime") is None:
        raise PluginError(registry.missing("onnxruntime", "a latency"))


# ----------------------------------------------------------------------------------------------------- suited to the data
def suited_training(spec: ExperimentSpec, info: DatasetInfo) -> Training:
    """A training that suits the data, with the user's own keys in the place of its own."""
    side = min(info.shape[:2])
    batch = 64 if info.sizes["train"] < 10_000 else 128
    default = Training(
        batch_size=batch,
        optimizer=SGD(momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(rate=0.1 if batch == 128 else 0.07),
        clip=Clip(kind="norm", value=5.0),
        label_smoothing=0.1,
        augmentation=Augmentation(pad_crop=max(1, side // 8), flip=info.flip),
    )
    try:
        return Training.parse(_merged(default.to_data(), spec.training))
    except SpecError as error:
        raise ConfigError(str(error).replace("Training: ", "training.")) from None


def _merged(default: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """What was said over the default, group by group; a group of another ``kind`` takes the place of the whole."""
    merged = dict(default)
    for key, value in said.items():
        old = default.get(key)
        same = (
            isinstance(value, Mapping)
            and isinstance(old, Mapping)
            and value.get("kind", old.get("kind")) == old.get("kind")
        )
        merged[key] = _merged(old, value) if same and isinstance(old, Mapping) else value
    return merged


def default_epochs(train_size: int) -> float:
    """Epochs of the final training where neither a budget nor a time is given."""
    return float(min(EPOCHS[1], max(EPOCHS[0], round(IMAGES / train_size))))


def problem_of(spec: ExperimentSpec, info: DatasetInfo, fidelities: Sequence[Budget] = ()) -> Problem:
    """What the searcher is told; ``fidelities`` as the trainer has them. Errors: ``ConfigError`` naming a key of training."""
    epochs = default_epochs(info.sizes["train"])
    suited = fidelities or (Budget(epochs=epochs * SEARCH_SHARE), Budget(epochs=epochs))
    return Problem(
        space=spec.space,
        space_settings=spec.space_settings,
        hyperparameters=spec.hyperparameters,
        objectives=spec.objectives,
        limits=spec.limits,
        input_shape=info.input_shape,
        num_classes=info.num_classes,
        train_size=info.sizes["train"],
        seed=spec.seed,
        training=suited_training(spec, info),
        budget=spec.budget or suited[0],
        final_budget=spec.final_budget or suited[-1],
        trials=spec.trials,
    )


def describe(experiment: Experiment) -> dict[str, JsonValue]:
    """What was decided, for people: the first network's size and the length of each training."""
    problem = experiment.problem
    trials = rehearse(make_searcher(experiment.spec, problem), problem, most=1)
    found = costs(lower(trials[0].spec.architecture, problem.input_shape, problem.num_classes)) if trials else None
    search, final = problem.budget, problem.final_budget
    if len(trials) > 1 and trials[-1].spec.budget != final:  # the whole search is one training of this length
        search, final = trials[0].spec.budget, trials[-1].spec.budget
    size, batch = problem.train_size, problem.training.batch_size
    return {
        "parameters": found.parameters if found else 0,
        "search_steps": search.in_steps(size, batch),
        "final_steps": final.in_steps(size, batch),
        **{key: experiment.measured[key] for key in ("device", "dtype", "threads") if key in experiment.measured},
    }

"""The flattened form: one categorical parameter a decision of the space, so that any algorithm of Katib's searches it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amla import datasets
from amla.engine.prepare import problem_of
from amla.errors import ConfigError, SpecError
from amla.spaces.base import space_of
from amla.spec.data import DatasetInfo
from amla.spec.experiment import ExperimentSpec, trial_seed
from amla.spec.hyperparameters import tuned
from amla.spec.trial import TrialSpec

if TYPE_CHECKING:
    from amla.services.katib.manifest import Form

#: What any tool can carry: parameters of an Experiment.
MOST = 100


def experiment(spec: ExperimentSpec, info: DatasetInfo, form: Form) -> dict[str, Any]:
    """The manifest. Errors: ``ConfigError`` where the space is too large to be flattened."""
    from amla.services.katib import manifest, templates

    decisions = space_of(problem_of(spec, info)).decisions()
    names = [*decisions, *spec.hyperparameters]
    if len(names) > MOST:
        raise ConfigError(f"space: {spec.space!r} has {len(names)} decisions; at most {MOST} can be flattened")
    frame = manifest.frame(form, maximum=spec.trials or MOST)
    body = frame["spec"]
    body["objective"] = manifest.objective(manifest.BESIDES)
    body["algorithm"] = {"algorithmName": form.algorithm}
    body["parameters"] = [
        *(
            {"name": name, "parameterType": "categorical", "feasibleSpace": {"list": list(options)}}
            for name, options in decisions.items()
        ),
        *(manifest.parameter(name, kind) for name, kind in spec.hyperparameters.items()),
    ]
    search = {key: value for key, value in spec.changed().items() if key not in ("dataset", "resources", "trainer")}
    variables = {
        "AMLA_SEARCH": json.dumps(search),
        "AMLA_DECISIONS": ";".join(f"{name}={templates.reference(name)}" for name in names),
    }
    body["trialTemplate"] = templates.template(spec, form.pod, form.name, names, variables)
    return frame


def trial_of(search: str, decisions: str, dataset: Any) -> tuple[TrialSpec, int]:
    """The trial that ``AMLA_SEARCH`` and ``AMLA_DECISIONS`` tell, and its seed. Errors: ``SpecError``, ``ConfigError``."""
    try:
        asked = ExperimentSpec.parse({**json.loads(search), "dataset": dataset.to_data()})
    except ValueError:
        raise SpecError("AMLA_SEARCH: not a JSON document") from None
    problem = problem_of(asked, datasets.load(dataset).info)
    taken = _taken(decisions)
    space = space_of(problem)
    network = space.decode({name: taken[name] for name in space.decisions() if name in taken})
    values = {name: json.loads(taken[name]) if _plain(taken[name]) else taken[name] for name in asked.hyperparameters}
    spec = TrialSpec(architecture=network, training=tuned(problem.training, values), budget=problem.budget)
    return spec, trial_seed(asked.seed, 0)


def _taken(decisions: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in decisions.split(";") if pair]
    wrong = next(("".join(pair) for pair in pairs if not pair[1]), None)
    if wrong is not None:
        raise SpecError(f"AMLA_DECISIONS: {wrong!r} is no NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _plain(text: str) -> bool:
    """Whether a value is JSON; other texts stand for themselves."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True

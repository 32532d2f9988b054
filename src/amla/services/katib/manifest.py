"""``kind: Experiment`` for a search of ours: complete, for a dataset that is looked at here, once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import yaml
from pydantic import Field

from amla import registry
from amla.engine.options import SHORT
from amla.engine.prepare import problem_of
from amla.engine.rehearsal import make_searcher, rehearse
from amla.errors import ConfigError
from amla.services.katib import crd, flat, setup, slots, stopping, templates
from amla.services.katib.parameters import CARRIED
from amla.services.katib.templates import Pod
from amla.spaces.base import space_of
from amla.spec.base import Document
from amla.spec.data import DatasetInfo
from amla.spec.experiment import ExperimentSpec, Problem
from amla.spec.hyperparameters import Hyperparameter

API = "kubeflow.org/v1beta1"
#: Figures that trials print besides the objective.
BESIDES = ("valid_loss", "parameters", "flops", "size_mb", "position", "seconds")
#: Trials that a rehearsal counts, at most.
COUNTED = 1000
#: Keys of an experiment file that are not said by algorithm settings: others say them, or they mean nothing in Katib.
UNSAID = ("name", "dataset", "searcher", "trainer", "resources", "hyperparameters", *setup.ELSEWHERE)


class Form(Document):
    """How the Experiment is written."""

    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$", description="at most 40 letters: Katib adds to it")
    namespace: str | None = None
    parameters: Literal["nas", "parameters", "flat"] = "nas"
    parallel: int = Field(1, ge=1)
    algorithm: str = Field("random", description="of a flat Experiment: one of Katib's own")
    early_stopping: str | None = Field(None, description="NAME,KEY=VALUE,...: see ``stopping.ALGORITHMS``")
    pod: Pod = Pod()


def experiment(spec: ExperimentSpec, info: DatasetInfo, form: Form) -> dict[str, Any]:
    """The manifest. Errors: ``ConfigError`` where Katib cannot do what the spec asks, or the service would refuse it."""
    if spec.time_budget is not None:
        raise ConfigError(f"time_budget: {setup.ELSEWHERE['time_budget']}")
    if form.parameters == "flat":
        return flat.experiment(spec, info, form)
    problem = problem_of(spec, info)
    searcher = make_searcher(spec, problem)
    counted = len(rehearse(searcher, problem, most=COUNTED))
    extra = 0 if searcher.sequential else form.parallel - 1
    chains = form.parallel if searcher.sequential else 1
    manifest = frame(form, maximum=counted * chains + extra)
    body = manifest["spec"]
    body["algorithm"] = {
        "algorithmName": setup.algorithm_name(spec.searcher),
        "algorithmSettings": _settings(spec, info, problem, form, chains, searcher.sequential),
    }
    if form.parameters == "nas":
        body["nasConfig"] = _nas(problem, info)
        names: Sequence[str] = CARRIED
    else:
        body["parameters"] = [
            *map(_placeholder, CARRIED),
            *(parameter(name, kind) for name, kind in spec.hyperparameters.items()),
        ]
        names = [*CARRIED, *spec.hyperparameters]
    if spec.hyperparameters and form.parameters == "nas":
        raise ConfigError("hyperparameters: they need --form parameters; nasConfig excludes them")
    body["trialTemplate"] = templates.template(spec, form.pod, form.name, names)
    body["objective"] = objective([])
    needed = setup.setup_of(crd.experiment_message(manifest)).slots()
    body["objective"] = objective([*BESIDES, *_latency(spec), *map(slots.name, range(needed))])
    setup.check(crd.experiment_message(manifest))
    return manifest


def objective(besides: Sequence[str]) -> dict[str, Any]:
    """Validation accuracy; of every metric the last value counts, which is what the trial ended with."""
    first = next(iter(setup.FIGURES))
    return {
        "type": "maximize",
        "objectiveMetricName": first,
        "additionalMetricNames": list(besides),
        "metricStrategies": [{"name": name, "value": "latest"} for name in (first, *besides)],
    }


def frame(form: Form, maximum: int) -> dict[str, Any]:
    """What every Experiment has."""
    metadata = {"name": form.name} | ({"namespace": form.namespace} if form.namespace else {})
    spec: dict[str, Any] = {
        "parallelTrialCount": form.parallel,
        "maxTrialCount": maximum,
        "maxFailedTrialCount": max(3, form.parallel),
        "resumePolicy": "Never",
        "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
    }
    if form.early_stopping is not None:
        spec["earlyStopping"] = stopping.asked(form.early_stopping)
    return {"apiVersion": API, "kind": "Experiment", "metadata": metadata, "spec": spec}


def parameter(name: str, kind: Hyperparameter) -> dict[str, Any]:
    """A hyperparameter as Katib spells it."""
    if kind.kind == "choice":
        options = [option if isinstance(option, str) else json.dumps(option) for option in kind.options]
        return {"name": name, "parameterType": "categorical", "feasibleSpace": {"list": options}}
    space = {"min": str(kind.low), "max": str(kind.high), "distribution": "logUniform" if kind.log else "uniform"}
    return {"name": name, "parameterType": "double" if kind.kind == "real" else "int", "feasibleSpace": space}


def text_of(manifest: Mapping[str, Any]) -> str:
    """The manifest as YAML."""
    return yaml.safe_dump(dict(manifest), sort_keys=False, width=120)


def _placeholder(name: str) -> dict[str, Any]:
    """Katib wants every name that comes back to be a parameter; what it may hold is not looked at."""
    return {"name": name, "parameterType": "categorical", "feasibleSpace": {"list": ["suggested"]}}


def _latency(spec: ExperimentSpec) -> list[str]:
    wanted = spec.limits.max_latency_ms is not None or any(one.metric == "latency_ms" for one in spec.objectives)
    return ["latency_ms"] if wanted else []


def _nas(problem: Problem, info: DatasetInfo) -> dict[str, Any]:
    space = space_of(problem)
    layers = getattr(space, "layers", None)
    operations = getattr(space, "operations", None)
    shown = "envelopenet" if problem.space == "envelope" else problem.space
    parameters = (
        [{"name": "envelope", "parameterType": "categorical", "feasibleSpace": {"list": list(operations)}}]
        if operations
        else []
    )
    return {
        "graphConfig": {
            "numLayers": len(layers) if isinstance(layers, tuple) else 1,
            "inputSizes": list(info.shape),
            "outputSizes": [info.num_classes],
        },
        "operations": [{"operationType": shown, "parameters": parameters}],
    }


def _settings(
    spec: ExperimentSpec, info: DatasetInfo, problem: Problem, form: Form, chains: int, sequential: bool
) -> list[dict[str, str]]:
    """What the service has to know: the data, the lengths of trainings, and everything that was said."""
    said: dict[str, Any] = {"train_size": info.sizes["train"], "flip": info.flip, "seed": spec.seed}
    if form.parameters == "parameters":
        said |= {"input_sizes": list(info.shape), "output_sizes": [info.num_classes]}
    if sequential:
        said["chains"] = chains
    if form.pod.artifacts:
        said["artifacts"] = form.pod.artifacts
    said["budget"] = problem.budget.model_dump(exclude_none=True)
    said["final_budget"] = problem.final_budget.model_dump(exclude_none=True)
    unsaid = {*UNSAID, "budget", "final_budget", "seed"}
    told = {key: value for key, value in spec.changed().items() if key not in unsaid}
    known = registry.load("searchers", spec.searcher).Settings.model_fields
    for key, value in told.items():
        if key == "settings":
            bare = {k: v for k, v in value.items() if k in known and not _ours(k)}
            said |= bare | {f"settings.{k}": v for k, v in value.items() if k not in bare}
        elif isinstance(value, dict):
            said |= {f"{key}.{k}": v for k, v in value.items() if v is not None}
        else:
            said[key] = value
    if not sequential and "trials" not in said:
        trials = getattr(make_searcher(spec, problem), "trials", None)
        said |= {"trials": trials} if trials else {}
    return [{"name": name, "value": text_of_setting(value)} for name, value in said.items()]


def _ours(key: str) -> bool:
    return key in SHORT or key in ExperimentSpec.model_fields or key in setup.Own.model_fields


def text_of_setting(value: Any) -> str:
    """A setting as Katib spells it."""
    return value if isinstance(value, str) else json.dumps(value)

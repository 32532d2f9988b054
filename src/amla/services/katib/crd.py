"""Katib's resources, as ``kubectl get -o json`` gives them -> the messages that Katib's controller makes of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from amla.errors import SpecError
from amla.services.katib.wire import enum, message

Resource = Mapping[str, Any]
#: Conditions that a trial can end in, and what it is before.
CONDITIONS = ("Created", "Running", "Succeeded", "Killed", "Failed", "MetricsUnavailable", "EarlyStopped")


def experiment_message(resource: Resource) -> Any:
    """``kind: Experiment`` -> message. Errors: ``SpecError`` where it is none."""
    if resource.get("kind") != "Experiment" or not isinstance(resource.get("spec"), Mapping):
        raise SpecError("this is no Experiment; `kubectl get experiment NAME -o json` gives one")
    spec = resource["spec"]
    found = message("Experiment")(name=resource["metadata"]["name"])
    found.spec.parallel_trial_count = spec.get("parallelTrialCount", 0)
    found.spec.max_trial_count = spec.get("maxTrialCount", 0)
    _objective(spec.get("objective", {}), found.spec.objective)
    for ours, theirs in ((found.spec.algorithm, "algorithm"), (found.spec.early_stopping, "earlyStopping")):
        asked = spec.get(theirs) or {}
        ours.algorithm_name = asked.get("algorithmName", "")
        for setting in asked.get("algorithmSettings") or ():
            ours.algorithm_settings.add(name=setting["name"], value=setting["value"])
    _parameters(spec.get("parameters"), found.spec.parameter_specs)
    nas = spec.get("nasConfig") or {}
    graph = nas.get("graphConfig") or {}
    found.spec.nas_config.graph_config.num_layers = graph.get("numLayers", 0)
    found.spec.nas_config.graph_config.input_sizes.extend(graph.get("inputSizes") or ())
    found.spec.nas_config.graph_config.output_sizes.extend(graph.get("outputSizes") or ())
    for operation in nas.get("operations") or ():
        added = found.spec.nas_config.operations.operation.add(operation_type=operation["operationType"])
        _parameters(operation.get("parameters"), added.parameter_specs)
    return found


def trial_message(resource: Resource) -> Any | None:
    """``kind: Trial`` -> message; None where the controller would leave it out: its metrics are unavailable, or it was stopped
    before it had any."""
    spec, status = resource["spec"], resource.get("status") or {}
    condition = condition_of(status)
    metrics = (status.get("observation") or {}).get("metrics") or []
    if condition == "MetricsUnavailable" or (condition == "EarlyStopped" and not metrics):
        return None
    found = message("Trial")(name=resource["metadata"]["name"])
    _objective(spec.get("objective", {}), found.spec.objective)
    for one in spec.get("parameterAssignments") or ():
        found.spec.parameter_assignments.assignments.add(name=one["name"], value=one["value"])
    found.status.start_time = status.get("startTime") or ""
    found.status.completion_time = status.get("completionTime") or ""
    found.status.condition = enum("TrialConditionType", condition.upper()) if condition else 7
    for metric in metrics:
        found.status.observation.metrics.add(name=metric["name"], value=value_of(metric, spec.get("objective", {})))
    return found


def condition_of(status: Resource) -> str:
    """The last condition that holds; an empty text where there is none that is known."""
    held = [one["type"] for one in status.get("conditions") or () if one.get("status") == "True"]
    known = [kind for kind in held if kind in CONDITIONS]
    return known[-1] if known else ""


def value_of(metric: Resource, objective: Resource) -> str:
    """The one value of a metric that reaches the service: by its strategy, else the best by the objective's type."""
    strategies = {one["name"]: one["value"] for one in objective.get("metricStrategies") or ()}
    best = "min" if objective.get("type") == "minimize" else "max"
    return str(metric.get(strategies.get(metric["name"], best), "unavailable"))


def _objective(objective: Resource, found: Any) -> None:
    found.type = enum("ObjectiveType", str(objective.get("type", "unknown")).upper())
    found.goal = float(objective.get("goal") or 0.0)
    found.objective_metric_name = objective.get("objectiveMetricName", "")
    found.additional_metric_names.extend(objective.get("additionalMetricNames") or ())


def _parameters(parameters: Any, found: Any) -> None:
    for one in parameters or ():
        space = one.get("feasibleSpace") or {}
        added = found.parameters.add(name=one["name"])
        added.parameter_type = enum("ParameterType", str(one.get("parameterType", "unknown_type")).upper())
        for bound in ("min", "max", "step"):
            setattr(added.feasible_space, bound, str(space.get(bound) or ""))
        added.feasible_space.list.extend(str(option) for option in space.get("list") or ())
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", space.get("distribution") or "distribution_unspecified")
        added.feasible_space.distribution = enum("Distribution", words.upper())

"""Katib's messages (package ``api.v1.beta1``), declared by field name and number, which is all that the wire knows.

The tables below are the whole contract; the message classes are made from them, so that no generated code is kept and any
protobuf runtime will do. Field kinds: ``s`` string, ``i`` int32, ``d`` double, ``E.Name`` an enum, ``M.Name`` a message,
``map`` string to string; ``*`` before a kind means repeated.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "api.v1.beta1"

ENUMS: dict[str, tuple[str, ...]] = {
    "ParameterType": ("UNKNOWN_TYPE", "DOUBLE", "INT", "DISCRETE", "CATEGORICAL"),
    "Distribution": ("DISTRIBUTION_UNSPECIFIED", "UNIFORM", "LOG_UNIFORM", "NORMAL", "LOG_NORMAL"),
    "ObjectiveType": ("UNKNOWN", "MINIMIZE", "MAXIMIZE"),
    "TrialConditionType": (
        "CREATED",
        "RUNNING",
        "SUCCEEDED",
        "KILLED",
        "FAILED",
        "METRICSUNAVAILABLE",
        "EARLYSTOPPED",
        "UNKNOWN_CONDITION",
    ),
    "ComparisonType": ("UNKNOWN_COMPARISON", "EQUAL", "LESS", "GREATER"),
}

#: Message -> field -> (number, kind).
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Experiment": {"name": (1, "s"), "spec": (2, "M.ExperimentSpec")},
    "ExperimentSpec": {
        "parameter_specs": (1, "M.ParameterSpecs"),
        "objective": (2, "M.ObjectiveSpec"),
        "algorithm": (3, "M.AlgorithmSpec"),
        "early_stopping": (4, "M.EarlyStoppingSpec"),
        "parallel_trial_count": (5, "i"),
        "max_trial_count": (6, "i"),
        "nas_config": (7, "M.NasConfig"),
    },
    "ParameterSpecs": {"parameters": (1, "*M.ParameterSpec")},
    "ParameterSpec": {
        "name": (1, "s"),
        "parameter_type": (2, "E.ParameterType"),
        "feasible_space": (3, "M.FeasibleSpace"),
    },
    "FeasibleSpace": {
        "max": (1, "s"),
        "min": (2, "s"),
        "list": (3, "*s"),
        "step": (4, "s"),
        "distribution": (5, "E.Distribution"),
    },
    "ObjectiveSpec": {
        "type": (1, "E.ObjectiveType"),
        "goal": (2, "d"),
        "objective_metric_name": (3, "s"),
        "additional_metric_names": (4, "*s"),
    },
    "AlgorithmSpec": {"algorithm_name": (1, "s"), "algorithm_settings": (2, "*M.Setting")},
    "EarlyStoppingSpec": {"algorithm_name": (1, "s"), "algorithm_settings": (2, "*M.Setting")},
    "Setting": {"name": (1, "s"), "value": (2, "s")},
    "NasConfig": {"graph_config": (1, "M.GraphConfig"), "operations": (2, "M.Operations")},
    "GraphConfig": {"num_layers": (1, "i"), "input_sizes": (2, "*i"), "output_sizes": (3, "*i")},
    "Operations": {"operation": (1, "*M.Operation")},
    "Operation": {"operation_type": (1, "s"), "parameter_specs": (2, "M.ParameterSpecs")},
    "Trial": {"name": (1, "s"), "spec": (2, "M.TrialSpec"), "status": (3, "M.TrialStatus")},
    "TrialSpec": {
        "objective": (1, "M.ObjectiveSpec"),
        "parameter_assignments": (2, "M.Assignments"),
        "labels": (4, "map"),
    },
    "Assignments": {"assignments": (1, "*M.Assignment")},
    "Assignment": {"name": (1, "s"), "value": (2, "s")},
    "TrialStatus": {
        "start_time": (1, "s"),
        "completion_time": (2, "s"),
        "condition": (3, "E.TrialConditionType"),
        "observation": (4, "M.Observation"),
    },
    "Observation": {"metrics": (1, "*M.Metric")},
    "Metric": {"name": (1, "s"), "value": (2, "s")},
    "GetSuggestionsRequest": {
        "experiment": (1, "M.Experiment"),
        "trials": (2, "*M.Trial"),
        "current_request_number": (4, "i"),
        "total_request_number": (5, "i"),
    },
    "GetSuggestionsReply": {
        "parameter_assignments": (1, "*M.Suggested"),
        "algorithm": (2, "M.AlgorithmSpec"),
        "early_stopping_rules": (3, "*M.EarlyStoppingRule"),
    },
    "Suggested": {"assignments": (1, "*M.Assignment"), "trial_name": (2, "s"), "labels": (3, "map")},
    "EarlyStoppingRule": {
        "name": (1, "s"),
        "value": (2, "s"),
        "comparison": (3, "E.ComparisonType"),
        "start_step": (4, "i"),
    },
    "ValidateAlgorithmSettingsRequest": {"experiment": (1, "M.Experiment")},
    "ValidateAlgorithmSettingsReply": {},
    "GetEarlyStoppingRulesRequest": {
        "experiment": (1, "M.Experiment"),
        "trials": (2, "*M.Trial"),
        "db_manager_address": (3, "s"),
    },
    "GetEarlyStoppingRulesReply": {"early_stopping_rules": (1, "*M.EarlyStoppingRule")},
    "SetTrialStatusRequest": {"trial_name": (1, "s")},
    "SetTrialStatusReply": {},
    "ValidateEarlyStoppingSettingsRequest": {"early_stopping": (1, "M.EarlyStoppingSpec")},
    "ValidateEarlyStoppingSettingsReply": {},
    "GetObservationLogRequest": {
        "trial_name": (1, "s"),
        "metric_name": (2, "s"),
        "start_time": (3, "s"),
        "end_time": (4, "s"),
    },
    "GetObservationLogReply": {"observation_log": (1, "M.ObservationLog")},
    "ObservationLog": {"metric_logs": (1, "*M.MetricLog")},
    "MetricLog": {"time_stamp": (1, "s"), "metric": (2, "M.Metric")},
}

#: Service -> its methods, by the messages' stem: METHODRequest -> METHODReply.
SERVICES: dict[str, tuple[str, ...]] = {
    "Suggestion": ("GetSuggestions", "ValidateAlgorithmSettings"),
    "EarlyStopping": ("GetEarlyStoppingRules", "SetTrialStatus", "ValidateEarlyStoppingSettings"),
    "DBManager": ("GetObservationLog",),  # Katib's own, which is asked
}

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"s": _FIELD.TYPE_STRING, "i": _FIELD.TYPE_INT32, "d": _FIELD.TYPE_DOUBLE}


def message(name: str) -> Any:
    """The message class of that name."""
    return _CLASSES[f"{PACKAGE}.{name}"]


def enum(name: str, value: str) -> int:
    """The number of an enum's value."""
    return ENUMS[name].index(value)


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="amla/katib.proto", package=PACKAGE, syntax="proto3")
    for name, values in ENUMS.items():
        enum_type = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum_type.value.add(name=f"{name}_{value}", number=number)
    for name, fields in MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(declared, field, number, kind)
    return file


def _add_field(declared: Any, name: str, number: int, kind: str) -> None:
    repeated = kind.startswith("*") or kind == "map"
    field = declared.field.add(
        name=name, number=number, label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    )
    kind = kind.removeprefix("*")
    if kind == "map":
        _add_map(declared, field, name)
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _FIELD.TYPE_ENUM if kind.startswith("E.") else _FIELD.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind[2:]}"


def _add_map(declared: Any, field: Any, name: str) -> None:
    """A map is a repeated message of keys and values, by protobuf's own convention."""
    entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
    pair = declared.nested_type.add(name=entry)
    pair.options.map_entry = True
    for number, part in enumerate(("key", "value"), 1):
        pair.field.add(name=part, number=number, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
    field.type = _FIELD.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{declared.name}.{entry}"


_POOL = descriptor_pool.DescriptorPool()  # one of our own: Katib's SDK may be loaded in the same process
_POOL.Add(_file())
_CLASSES: dict[str, Any] = {
    f"{PACKAGE}.{name}": message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
    for name in MESSAGES
}

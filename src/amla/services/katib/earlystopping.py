"""The service ``api.v1.beta1.EarlyStopping``. Stateless: what trials reported is asked of Katib's database."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import grpc

from amla import registry
from amla.errors import AmlaError, PluginError
from amla.services.katib.setup import FIGURES
from amla.services.katib.stopping import Curve, stopping_of
from amla.services.katib.suggestion import one_line
from amla.services.katib.wire import PACKAGE, enum, message

#: Seconds that the database may take for all trials of a request: Katib waits for 60.
PATIENCE = 40.0


class EarlyStoppingService:
    """Answers Katib's controller and the collectors in the trials."""

    def __init__(self) -> None:
        #: What a trial that has ended reported does not change: (database, trial, when it ended, metric) -> values.
        self.known: dict[tuple[str, str, str, str], tuple[float, ...]] = {}

    def ValidateEarlyStoppingSettings(self, request: Any, context: grpc.ServicerContext) -> Any:  # Katib's name
        try:
            stopping_of(request.early_stopping)
        except AmlaError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, one_line(error))
        return message("ValidateEarlyStoppingSettingsReply")()

    def GetEarlyStoppingRules(self, request: Any, context: grpc.ServicerContext) -> Any:  # Katib's name
        try:
            stopping = stopping_of(request.experiment.spec.early_stopping)
            curves = self._curves(request)
        except AmlaError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, one_line(error))
        except grpc.RpcError as error:
            where = request.db_manager_address
            context.abort(grpc.StatusCode.UNAVAILABLE, f"Katib's database at {where!r}: {error.details()}")
        objective = request.experiment.spec.objective
        maximize = objective.type != enum("ObjectiveType", "MINIMIZE")
        rule = stopping.rule(curves, maximize)
        reply = message("GetEarlyStoppingRulesReply")()
        if rule is not None:
            reply.early_stopping_rules.add(
                name=_metric(objective),
                value=repr(rule.value),
                comparison=enum("ComparisonType", "LESS" if maximize else "GREATER"),
                start_step=rule.start_step,
            )
        return reply

    def SetTrialStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # Katib's name
        try:
            _stop(request.trial_name)
        except AmlaError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, one_line(error))
        return message("SetTrialStatusReply")()

    def _curves(self, request: Any) -> list[Curve]:
        """What trials that have ended reported. Errors: ``grpc.RpcError`` where the database does not answer."""
        succeeded, stopped = (enum("TrialConditionType", one) for one in ("SUCCEEDED", "EARLYSTOPPED"))
        ended = [trial for trial in request.trials if trial.status.condition in (succeeded, stopped)]
        metric, address = _metric(request.experiment.spec.objective), request.db_manager_address
        keys = [(address, trial.name, trial.status.completion_time, metric) for trial in ended]
        missing = [key for key in keys if key not in self.known]
        if missing:
            self.known |= dict(zip(missing, _logs(address, [key[1] for key in missing], metric), strict=True))
        return [
            Curve(self.known[key], trial.status.condition == succeeded) for key, trial in zip(keys, ended, strict=True)
        ]


def _metric(objective: Any) -> str:
    return objective.objective_metric_name or next(iter(FIGURES))


def _logs(address: str, names: Sequence[str], metric: str) -> list[tuple[float, ...]]:
    """The numbers that trials reported of a metric, in Katib's order, which is that of time."""
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        ask = channel.unary_unary(
            f"/{PACKAGE}.DBManager/GetObservationLog",
            request_serializer=message("GetObservationLogRequest").SerializeToString,
            response_deserializer=message("GetObservationLogReply").FromString,
        )
        asked = [
            ask.future(message("GetObservationLogRequest")(trial_name=name, metric_name=metric), timeout=PATIENCE)
            for name in names
        ]
        return [_numbers(one.result()) for one in asked]


def _numbers(reply: Any) -> tuple[float, ...]:
    found = (_number(log.metric.value) for log in reply.observation_log.metric_logs)
    return tuple(value for value in found if value is not None)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _stop(name: str) -> None:
    """Errors: ``PluginError`` without the client of Kubernetes; ``ConfigError``."""
    if importlib.util.find_spec("kubernetes") is None:
        raise PluginError(registry.missing("kubernetes", "stopping trials early"))
    from amla.services.katib.cluster import stop_trial

    stop_trial(name)

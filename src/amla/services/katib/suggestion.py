"""The service ``api.v1.beta1.Suggestion``: one server for every searcher, the algorithm's name picks it. Stateless."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import grpc

from amla.errors import AmlaError, SearchError
from amla.services.katib import parameters, parcels
from amla.services.katib.history import History
from amla.services.katib.planning import Suggestion, suggestions
from amla.services.katib.setup import Setup, check, setup_of
from amla.services.katib.wire import message

log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is answered with a status, and one line that names the setting."""

    def __init__(self, code: grpc.StatusCode, error: AmlaError) -> None:
        super().__init__(one_line(error))
        self.code = code


def get_suggestions(request: Any) -> Any:
    """Errors: ``Refused``."""
    try:
        return reply_of(request)
    except SearchError as error:
        log.warning("no suggestion", extra={"experiment": request.experiment.name, "reason": str(error)})
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, error) from None
    except AmlaError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, error) from None


def validate(request: Any) -> Any:
    """Errors: ``Refused``."""
    try:
        check(request.experiment)
    except AmlaError as error:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, error) from None
    return message("ValidateAlgorithmSettingsReply")()


#: Method of the service -> what answers it.
ANSWERS: dict[str, Callable[[Any], Any]] = {
    "GetSuggestions": get_suggestions,
    "ValidateAlgorithmSettings": validate,
}


def reply_of(request: Any) -> Any:
    """The reply to a ``GetSuggestionsRequest``. The number of a suggestion cannot be counted from the trials, since some never
    come to be. Errors: ``AmlaError``."""
    history = history_of(request.experiment.SerializeToString())
    setup = history.setup
    count = max(0, request.current_request_number)
    first = max(0, request.total_request_number - count)
    found = suggestions(setup, history.past(request.trials), first, count)
    reply = message("GetSuggestionsReply")()
    for suggestion in found:
        given = reply.parameter_assignments.add()
        for name, value in assignments(suggestion, setup).items():
            given.assignments.add(name=name, value=value)
    return reply


@functools.lru_cache(maxsize=4)
def history_of(experiment: bytes) -> History:
    """What is known of an Experiment: nothing that its message and its trials would not tell anew. Errors: ``AmlaError``."""
    return History(setup_of(message("Experiment").FromString(experiment)))


def assignments(suggestion: Suggestion, setup: Setup) -> dict[str, str]:
    """Everything that a trial is told, by name. Errors: ``SearchError`` where it is more than Katib may keep."""
    spec = suggestion.whole
    parcel = {key: value for key, value in suggestion.changed().items() if key != "whole"}
    carried = {
        "architecture": parcels.pack(spec.architecture.to_json()),
        "trial": parcels.pack(json.dumps(parcel)),
        "number": str(suggestion.number),
        "chain": str(suggestion.chain),
        "iteration": str(spec.memo.get("iteration", suggestion.number)),
        "parent": "none" if spec.parent is None else str(spec.parent),
    }
    tuned = parameters.written(spec.training, setup.problem.hyperparameters, setup.hyperparameters)
    size = sum(len(name) + len(value) for name, value in (carried | tuned).items())
    if size > parcels.MOST:
        raise SearchError(
            f"a trial of {size} bytes: Katib keeps at most {parcels.MOST} of each; take a smaller network"
        )
    return carried | tuned


def one_line(error: AmlaError) -> str:
    return " ".join(str(error).split())

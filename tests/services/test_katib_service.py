"""The real gRPC server and channel on loopback."""

import contextlib
import math
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from katib_controller import call

from amla.services.katib import parcels, slots, suggestion
from amla.services.katib.server import serving
from amla.services.katib.wire import ENUMS, enum, message
from amla.services.katib.worker import Worker

SETTINGS = {"train_size": "300", "width": "12", "search_steps": "4", "steps": "12"}


@pytest.fixture(scope="module")
def port():
    with serving(0, "127.0.0.1") as taken:
        yield taken


def experiment(algorithm: str = "nac", declared: int = 128, sizes: bool = True, **settings: str) -> Any:
    found = message("Experiment")(name="one")
    found.spec.algorithm.algorithm_name = algorithm
    found.spec.max_trial_count = 6
    found.spec.objective.type = enum("ObjectiveType", "MAXIMIZE")
    found.spec.objective.objective_metric_name = "valid_accuracy"
    found.spec.objective.additional_metric_names.extend(slots.name(number) for number in range(declared))
    if sizes:
        found.spec.nas_config.graph_config.input_sizes.extend([8, 8, 1])
        found.spec.nas_config.graph_config.output_sizes.append(10)
    for name, value in {**SETTINGS, **settings}.items():
        found.spec.algorithm.algorithm_settings.add(name=name, value=value)
    return found


def ask(port: int, asked: Any, trials: Any = (), count: int = 1, total: int = 1) -> list[dict[str, str]]:
    request = message("GetSuggestionsRequest")(
        experiment=asked, trials=trials, current_request_number=count, total_request_number=total
    )
    reply = call(port, "GetSuggestions", request)
    return [{one.name: one.value for one in given.assignments} for given in reply.parameter_assignments]


def trial(assignments: dict[str, str], condition: str = "SUCCEEDED", **metrics: str) -> Any:
    found = message("Trial")(name=f"one-{assignments.get('number', 'x')}")
    for name, value in assignments.items():
        found.spec.parameter_assignments.assignments.add(name=name, value=value)
    found.status.condition = enum("TrialConditionType", condition)
    for name, value in metrics.items():
        found.status.observation.metrics.add(name=name, value=value)
    return found


def ended(assignments: dict[str, str], accuracy: str = "0.5") -> Any:
    numbers = {slots.name(number): str(1.0 / (number + 1)) for number in range(128)}
    return trial(assignments, valid_accuracy=accuracy, **numbers)


def iteration(assignments: dict[str, str]) -> tuple[str, str]:
    return assignments["chain"], assignments["iteration"]


def refused(port: int, asked: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(port, "ValidateAlgorithmSettings", message("ValidateAlgorithmSettingsRequest")(experiment=asked))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


@pytest.mark.parametrize("algorithm", ["nac", "random", "amla-random", "evolution", "local-search", "successive-halving",
                                       "bayes", "zero-cost", "envelope", "reinforce"])  # fmt: skip
def test_every_searcher_gives_as_many_as_are_asked_for(port, algorithm):
    asked = experiment(algorithm, **({"search_steps": "90"} if algorithm == "successive-halving" else {}))
    call(port, "ValidateAlgorithmSettings", message("ValidateAlgorithmSettingsRequest")(experiment=asked))
    found = ask(port, asked, count=3, total=3)
    assert [one["number"] for one in found] == ["0", "1", "2"]
    assert ask(port, asked, count=3, total=3) == found
    for one in found:
        assert all(
            set(value) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=")
            for value in one.values()
        )
        assert sum(map(len, one.values())) < 8192


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_prune": "many"}, "max_prune"),
        ({"maxprune": "6"}, "maxprune"),
        ({"time_budget": "30m"}, "time_budget"),
        ({"train_size": "none"}, "train_size"),
        ({"chain_criteria": "[beauty]"}, "criterion"),
        ({"width": "2"}, "width"),
        ({"training.batch_size": "0"}, "batch_size"),
        ({"algorithm": "best"}, "best"),
        ({"declared": 3}, "additionalMetricNames"),
        ({"sizes": False}, "input_sizes"),
        ({"space": "nasbench201"}, "space"),
    ],
)
def test_a_wrong_setting_is_named(port, change, named):
    assert named in refused(port, experiment(**change))


def test_an_objective_that_no_trial_prints(port):
    asked = experiment()
    asked.spec.objective.objective_metric_name = "loss"
    assert "objectiveMetricName" in refused(port, asked)
    asked.spec.objective.objective_metric_name = ""
    assert len(ask(port, asked)) == 1


def test_health(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="manager.v1beta1.Suggestion")
        assert health.Check(asked, timeout=1).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=1)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_chain_goes_on_and_others_fill_the_rest(port):
    asked = experiment(iterations="2")
    (first,) = ask(port, asked)
    done = ended(first)
    second, filler = ask(port, asked, [done], count=2, total=3)
    assert (iteration(second), iteration(filler)) == (("0", "1"), ("1", "0"))
    assert second["architecture"] != first["architecture"]
    last, *_ = ask(port, asked, [ended(second), done], count=1, total=4)
    assert parcels.spec_of(last["architecture"], last["trial"]).purpose == "final"
    (new,) = ask(port, asked, [ended(last), ended(second), done], count=1, total=5)
    assert iteration(new) == ("1", "0")  # the first search is over


def test_trials_that_were_begun_twice_count_once(port):
    asked = experiment()
    (first,) = ask(port, asked, total=1)
    (again,) = ask(port, asked, total=2)  # the first had not become a trial yet
    assert iteration(first) == iteration(again)
    (following,) = ask(port, asked, [ended(again), ended(first)], total=3)
    assert iteration(following) == ("0", "1")


@pytest.mark.parametrize("value", ["", "nan", "unavailable"])
def test_a_trial_without_its_objective_has_failed(port, value):
    asked = experiment()
    (first,) = ask(port, asked)
    (second,) = ask(port, asked, [ended(first, value)], total=2)
    assert iteration(second) == ("0", "0")


def test_strangers_change_nothing(port):
    asked = experiment()
    other = experiment(width="13")
    (first,) = ask(port, asked)
    (foreign,) = ask(port, other)
    strangers = [ended(foreign), trial({}), trial({"architecture": "x", "trial": "y"}), trial({"lr": "0.1"}, "RUNNING")]
    assert ask(port, asked, [*strangers, ended(first)], total=2) == ask(port, asked, [ended(first)], total=2)


def test_no_request_is_too_large(port):
    asked = experiment()
    stranger = trial({"architecture": "x" * 5_000_000})  # gRPC's default is 4 MiB
    assert ask(port, asked, [stranger]) == ask(port, asked)


CONDITIONS = ENUMS["TrialConditionType"]
VALUES = st.sampled_from(["0.1", "0.9", "1e-3", "", "nan", "unavailable", "-0.5"])


def asked_anew(asked: Any, trials: Any, count: int, total: int) -> list[dict[str, str]]:
    """The reply of a service that has just begun: it knows nothing of earlier requests."""
    suggestion.history_of.cache_clear()
    for known in (parcels.architecture_of, parcels.parcel_of, parcels.spec_of):
        known.cache_clear()
    request = message("GetSuggestionsRequest")(
        experiment=asked, trials=trials, current_request_number=count, total_request_number=total
    )
    reply = suggestion.reply_of(request)
    return [{one.name: one.value for one in given.assignments} for given in reply.parameter_assignments]


@given(data=st.data(), algorithm=st.sampled_from(["nac", "random", "evolution", "reinforce"]))
def test_any_history_gets_the_asked_number(port, data, algorithm):
    """Requests of any size, trials in any state, order and number; and a restart in between changes nothing."""
    asked = experiment(algorithm, iterations="2") if algorithm == "nac" else experiment(algorithm)
    history: list[Any] = []
    total = 0
    for _ in range(data.draw(st.integers(1, 4))):
        count = data.draw(st.integers(1, 3))
        total += count
        trials = data.draw(st.permutations(history))
        found = ask(port, asked, trials, count, total)
        assert [int(given["number"]) for given in found] == list(range(total - count, total))
        assert asked_anew(asked, data.draw(st.permutations(history)), count, total) == found
        for given_ in found:
            condition = data.draw(st.sampled_from(CONDITIONS))
            known = ended(given_, data.draw(VALUES)) if data.draw(st.booleans()) else trial(given_)
            known.status.condition = enum("TrialConditionType", condition)
            if data.draw(st.integers(0, 4)):  # some never come to be
                history.append(known)


def test_a_process_that_dies_is_replaced():
    asked = experiment()
    others = psutil.Process().children()
    with contextlib.closing(Worker()) as worker:
        request = message("GetSuggestionsRequest")(experiment=asked, current_request_number=1, total_request_number=1)
        code, before = worker.ask("GetSuggestions", request.SerializeToString())
        assert code is grpc.StatusCode.OK
        (child,) = set(psutil.Process().children()) - set(others)
        child.kill()
        child.wait()
        assert worker.ask("GetSuggestions", request.SerializeToString()) == (code, before)
        code, why = worker.ask("GetSuggestions", b"\xff")  # no protobuf: the process ends with a traceback
        assert (code, why.split()[0]) == (grpc.StatusCode.UNKNOWN, b"the")
        assert worker.ask("GetSuggestions", request.SerializeToString()) == (grpc.StatusCode.OK, before)


def test_health_answers_meanwhile(port):
    """While suggestions are being made, however long that takes; ``benchmarks/katib.py`` has the figures."""
    asked = experiment("evolution", trials="2000")
    history = [ended(one, str(math.sin(number) ** 2)) for number, one in enumerate(ask(port, asked, (), 50, 50))]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = message("GetSuggestionsRequest")(
            experiment=asked, trials=history, current_request_number=200, total_request_number=250
        )
        method = channel.unary_unary(
            "/api.v1.beta1.Suggestion/GetSuggestions",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=message("GetSuggestionsReply").FromString,
        )
        running = method.future(request, timeout=60)
        health = health_pb2_grpc.HealthStub(channel)
        answered = 0
        while not running.done():
            health.Check(health_pb2.HealthCheckRequest(service="manager.v1beta1.Suggestion"), timeout=1)
            answered += 1
        assert answered > 1
        assert len(running.result().parameter_assignments) == 200


def test_the_wire_is_what_the_contract_says():
    request = message("GetSuggestionsRequest")(current_request_number=2, total_request_number=5)
    assert request.SerializeToString() == bytes([0x20, 2, 0x28, 5])

"""The EarlyStopping service over the real gRPC server, with a database and a cluster on loopback."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from katib_cluster import Cluster, served
from katib_controller import call, database, stopped_at

from amla.services.katib.server import serving
from amla.services.katib.stopping import Curve, MedianStop, SuccessiveHalving
from amla.services.katib.wire import enum, message


@pytest.fixture(scope="module")
def port():
    with serving(0, "127.0.0.1") as taken:
        yield taken


def rules(
    port: int, logs: Mapping[str, Sequence[str]], algorithm: str, *, minimize: bool = False, stopped: Sequence[str] = (),
    **settings: str,
) -> list[Any]:  # fmt: skip
    request = message("GetEarlyStoppingRulesRequest")()
    spec = request.experiment.spec
    spec.objective.objective_metric_name = "valid_accuracy"
    spec.objective.type = enum("ObjectiveType", "MINIMIZE" if minimize else "MAXIMIZE")
    spec.early_stopping.algorithm_name = algorithm
    for name, value in settings.items():
        spec.early_stopping.algorithm_settings.add(name=name, value=value)
    for name in logs:
        trial = request.trials.add(name=name)
        trial.status.condition = enum("TrialConditionType", "EARLYSTOPPED" if name in stopped else "SUCCEEDED")
    running = request.trials.add(name="still-running")
    running.status.condition = enum("TrialConditionType", "RUNNING")
    with database(logs) as address:
        request.db_manager_address = address
        reply = call(port, "GetEarlyStoppingRules", request, "EarlyStopping")
    return list(reply.early_stopping_rules)


LOGS = {"a": ["0.2", "0.4", "0.9"], "b": ["0.1", "0.1", "0.1"], "c": ["0.6", "0.8", "0.9"], "d": ["0.9"]}


def test_the_median_of_running_averages(port):
    (rule,) = rules(port, LOGS, "amla-medianstop", start_step="2")
    assert (rule.name, rule.start_step) == ("valid_accuracy", 2)
    assert float(rule.value) == pytest.approx(0.3)  # of 0.3, 0.1, 0.7; d never came so far
    assert rule.comparison == enum("ComparisonType", "LESS")
    (other,) = rules(port, LOGS, "amla-medianstop", minimize=True, start_step="2")
    assert other.comparison == enum("ComparisonType", "GREATER")


def test_too_few_whole_trials_stop_nothing(port):
    assert rules(port, LOGS, "amla-medianstop", start_step="2", min_trials_required="4") == []
    assert rules(port, LOGS, "amla-medianstop", start_step="2", stopped=["a"]) == []
    assert rules(port, {}, "successive-halving") == []


def test_one_of_eta_goes_on(port):
    (rule,) = rules(port, LOGS, "successive-halving", start_step="2", eta="3", stopped=["b"])
    assert (rule.value, rule.start_step) == ("0.8", 2)
    more = {**LOGS, "e": ["0.5"] * 6, "f": ["0.3"] * 4, "g": ["0.1"]}
    (later,) = rules(port, more, "successive-halving", start_step="2", eta="2", rungs="2")
    assert later.start_step == 4  # seven have ended: the eighth is judged at the second rung
    assert later.value == "0.5"


@pytest.mark.parametrize(
    ("algorithm", "settings", "named"),
    [
        ("medianstop", {}, "medianstop"),
        ("amla-medianstop", {"start_step": "1"}, "start_step"),
        ("amla-medianstop", {"eta": "3"}, "eta"),
        ("successive-halving", {"eta": "many"}, "eta"),
    ],
)
def test_a_wrong_setting_is_named(port, algorithm, settings, named):
    request = message("ValidateEarlyStoppingSettingsRequest")()
    request.early_stopping.algorithm_name = algorithm
    for name, value in settings.items():
        request.early_stopping.algorithm_settings.add(name=name, value=value)
    with pytest.raises(grpc.RpcError) as caught:
        call(port, "ValidateEarlyStoppingSettings", request, "EarlyStopping")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert named in caught.value.details()


def test_good_settings_pass(port):
    request = message("ValidateEarlyStoppingSettingsRequest")()
    request.early_stopping.algorithm_name = "successive-halving"
    request.early_stopping.algorithm_settings.add(name="rungs", value="3")
    call(port, "ValidateEarlyStoppingSettings", request, "EarlyStopping")


def test_without_its_database_katib_is_told_to_come_again(port):
    request = message("GetEarlyStoppingRulesRequest")(db_manager_address="127.0.0.1:1")
    request.experiment.spec.early_stopping.algorithm_name = "amla-medianstop"
    request.trials.add(name="one").status.condition = enum("TrialConditionType", "SUCCEEDED")
    with pytest.raises(grpc.RpcError) as caught:
        call(port, "GetEarlyStoppingRules", request, "EarlyStopping")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


CURVES = st.lists(st.lists(st.floats(0.0, 1.0), max_size=6), max_size=12)


@given(CURVES, st.booleans(), st.integers(2, 4), st.integers(1, 3))
def test_the_best_trial_is_never_stopped(curves, maximize, eta, rungs):
    """Whoever leads at the report that counts goes on, by either algorithm."""
    known = [Curve(tuple(values), True) for values in curves]
    best = max if maximize else min
    for algorithm in (MedianStop(min_trials_required=1, start_step=2), SuccessiveHalving(eta=eta, rungs=rungs)):
        rule = algorithm.rule(known, maximize)
        if rule is None:
            continue
        reached = [best(values[: rule.start_step]) for values in curves if len(values) >= rule.start_step]
        leader = best(reached)
        assert leader >= rule.value if maximize else leader <= rule.value


@contextlib.contextmanager
def at_a_cluster(tmp_path: Any, monkeypatch: Any, *conditions: str) -> Iterator[Cluster]:
    cluster = Cluster()
    held = [{"type": kind, "status": "True"} for kind in conditions]
    cluster.put("team", "trials", {"metadata": {"name": "one"}, "status": {"conditions": held, "startTime": "now"}})
    with served(cluster, tmp_path) as file:
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        yield cluster


def stop(port: int, name: str) -> None:
    call(port, "SetTrialStatus", message("SetTrialStatusRequest")(trial_name=name), "EarlyStopping")


def kinds(cluster: Cluster) -> list[str]:
    return [one["type"] for one in cluster.objects["team", "trials", "one"]["status"]["conditions"]]


def test_a_trial_is_marked_in_the_cluster(port, tmp_path, monkeypatch):
    with at_a_cluster(tmp_path, monkeypatch, "Created", "Running") as cluster:
        stop(port, "one")
        stop(port, "one")  # Katib asks again where an answer was lost
        assert kinds(cluster) == ["Created", "Running", "EarlyStopped"]
        assert cluster.objects["team", "trials", "one"]["status"]["startTime"] == "now"


def test_another_writer_loses_nothing(port, tmp_path, monkeypatch):
    with at_a_cluster(tmp_path, monkeypatch, "Created") as cluster:
        cluster.rivals = 2
        stop(port, "one")
        assert kinds(cluster) == ["Created", "EarlyStopped"]
        cluster.objects["team", "trials", "one"]["status"]["conditions"].pop()
        cluster.rivals = 100
        with pytest.raises(grpc.RpcError, match="changed by others"):
            stop(port, "one")


def test_what_cannot_be_marked_is_said(port, tmp_path, monkeypatch):
    with at_a_cluster(tmp_path, monkeypatch), pytest.raises(grpc.RpcError, match="404") as caught:
        stop(port, "two")
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(grpc.RpcError, match="no cluster"):
        stop(port, "one")


def test_the_collector_stops_at_its_report():
    rule = {"name": "valid_accuracy", "value": "0.5", "comparison": "less", "startStep": 2}
    lines = ["valid_accuracy=0.4", "other=0.1", "valid_accuracy=0.3", "valid_accuracy=0.9"]
    assert stopped_at(lines, [rule], "valid_accuracy", "maximize") == 2
    assert stopped_at(["valid_accuracy=0.6", *lines], [rule], "valid_accuracy", "maximize") is None

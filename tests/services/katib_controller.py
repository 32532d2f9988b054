"""A small Katib: it asks the service over gRPC as the controller does, renders the trial template as the controller does, runs
each trial as the kubelet would (``sh -c``, output to a file), and reads that file as the collector's TEXT filter does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import psutil

from amla.services.katib.crd import experiment_message, trial_message
from amla.services.katib.wire import ENUMS, PACKAGE, message

#: Katib's default filter.
FILTER = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")
DEADLINE = 60.0


class Service:
    """``amla katib serve`` in a process of its own."""

    def __init__(self) -> None:
        words = [str(Path(sys.executable).with_name("amla")), "katib", "serve", "--port", "0", "--host", "127.0.0.1"]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self.port = int(line.rsplit(":", 1)[1])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def __enter__(self) -> int:
        return self.port

    def __exit__(self, *_: object) -> None:
        self.kill()


def call(port: int, method: str, request: Any, service: str = "Suggestion") -> Any:
    """One call, over a channel of its own."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)]) as channel:
        ask = channel.unary_unary(
            f"/{PACKAGE}.{service}/{method}",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=message(f"{method}Reply").FromString,
        )
        return ask(request, timeout=DEADLINE)


@contextlib.contextmanager
def database(logs: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Katib's database of what trials (by name) reported of the objective, in order; gives its address."""

    def logged(request: Any, _: Any) -> Any:
        reply = message("GetObservationLogReply")()
        for value in logs.get(request.trial_name, ()):
            reply.observation_log.metric_logs.add().metric.MergeFrom(
                message("Metric")(name=request.metric_name, value=value)
            )
        return reply

    method = grpc.unary_unary_rpc_method_handler(
        logged,
        request_deserializer=message("GetObservationLogRequest").FromString,
        response_serializer=message("GetObservationLogReply").SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(f"{PACKAGE}.DBManager", {"GetObservationLog": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


class Katib:
    """One Experiment, from its manifest to its last trial."""

    def __init__(self, manifest: dict[str, Any], at: Path) -> None:
        self.manifest, self.at = manifest, at
        self.spec = manifest["spec"]
        self.assigned: list[dict[str, str]] = []
        self.rules: list[list[dict[str, Any]]] = []
        self.trials: list[dict[str, Any]] = []
        self.logs: dict[str, list[str]] = {}

    @property
    def over(self) -> bool:
        return len(self.trials) >= self.spec["maxTrialCount"]

    def validate(self, port: int) -> None:
        request = message("ValidateAlgorithmSettingsRequest")(experiment=experiment_message(self.manifest))
        call(port, "ValidateAlgorithmSettings", request)

    def ask(self, port: int, count: int) -> None:
        """Ask for so many suggestions; another number of them is refused."""
        request = message("GetSuggestionsRequest")(
            experiment=experiment_message(self.manifest),
            current_request_number=count,
            total_request_number=len(self.assigned) + count,
        )
        # in no order: the newest first
        request.trials.extend(known for trial in reversed(self.trials) if (known := trial_message(trial)))
        reply = call(port, "GetSuggestions", request)
        assert len(reply.parameter_assignments) == count
        self.assigned += [{one.name: one.value for one in given.assignments} for given in reply.parameter_assignments]
        self.rules += [self._rules(port, request) if "earlyStopping" in self.spec else []] * count

    def run(self) -> None:
        """Run every suggestion that has no trial yet."""
        for number in range(len(self.trials), len(self.assigned)):
            self.trials.append(self._trial(number, self.assigned[number]))

    def _rules(self, port: int, request: Any) -> list[dict[str, Any]]:
        """The same rules for all suggestions of a request, as a Trial's ``earlyStoppingRules``."""
        with database(self.logs) as address:
            asked = message("GetEarlyStoppingRulesRequest")(
                experiment=request.experiment, trials=request.trials, db_manager_address=address
            )
            reply = call(port, "GetEarlyStoppingRules", asked, "EarlyStopping")
        return [
            {
                "name": rule.name,
                "value": rule.value,
                "comparison": ENUMS["ComparisonType"][rule.comparison].lower(),
                "startStep": rule.start_step,
            }
            for rule in reply.early_stopping_rules
        ]

    def best(self) -> dict[str, Any]:
        name = self.spec["objective"]["objectiveMetricName"]
        return max(self.trials, key=lambda trial: float(_metrics(trial).get(name, "-1")))

    def resources(self) -> dict[str, Any]:
        """What ``kubectl get experiment,trials -o json`` gives."""
        done = {"conditions": [{"type": "Succeeded", "status": "True"}]}
        return {"kind": "List", "items": [{**self.manifest, "status": done}, *self.trials]}

    def _trial(self, number: int, assignments: dict[str, str]) -> dict[str, Any]:
        parameters = self.spec["trialTemplate"]["trialParameters"]
        assert {one["reference"] for one in parameters} == set(assignments)
        job = rendered(self.spec["trialTemplate"], assignments)
        objective = self.spec["objective"]
        watched = Watch(self.rules[number], objective["objectiveMetricName"], objective["type"])
        code, text = run_job(job, self.at, number, watched)
        trial = {
            "kind": "Trial",
            "metadata": {"name": f"{self.manifest['metadata']['name']}-{number:08x}"},
            "spec": {
                "objective": self.spec["objective"],
                "parameterAssignments": [{"name": name, "value": value} for name, value in assignments.items()],
            },
        }
        wanted = [self.spec["objective"]["objectiveMetricName"], *self.spec["objective"]["additionalMetricNames"]]
        found = collected(text, wanted)
        self.logs[trial["metadata"]["name"]] = reported(text, wanted[0])
        ended = "EarlyStopped" if code == STOPPED else "Failed" if code else "Succeeded"
        ended = ended if wanted[0] in found else "MetricsUnavailable"
        metrics = [{"name": name, **found.get(name, UNAVAILABLE)} for name in wanted]
        trial["status"] = {
            "conditions": [{"type": ended, "status": "True"}],
            "observation": {"metrics": metrics},
            "logs": text,
        }
        return trial


UNAVAILABLE = {"latest": "unavailable", "min": "unavailable", "max": "unavailable"}


def rendered(template: dict[str, Any], assignments: dict[str, str]) -> dict[str, Any]:
    """The trial's job: values are put raw into the template's JSON text."""
    text = json.dumps(template["trialSpec"])
    for one in template["trialParameters"]:
        place = f"${{trialParameters.{one['name']}}}"
        assert place in text, one["name"]
        text = text.replace(place, assignments[one["reference"]])
    assert "${trialParameters." not in text
    job: dict[str, Any] = json.loads(text)
    return job


#: What ``run_job`` gives as the code of a trial that its collector has stopped.
STOPPED = -1


class Watch(NamedTuple):
    """What the collector looks for while a trial runs."""

    rules: list[dict[str, Any]]
    objective: str
    kind: str


def run_job(job: dict[str, Any], at: Path, number: int, watch: Watch) -> tuple[int, str]:
    """Command and args joined unquoted into ``sh -c``, as the collector's webhook does; what it printed. The collector ends the
    shell's child once all rules of early stopping are met."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    words = " ".join([*container["command"], *container.get("args", ())])
    log = at / f"metrics-{number}.log"
    log.touch()
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(at)}
    environment |= {key: os.environ[key] for key in ("OMP_NUM_THREADS", "PYTHONPATH") if key in os.environ}
    environment |= {one["name"]: one["value"] for one in container["env"]}
    wrapped = f"{words} 1>{log} 2>&1 && echo completed > {at}/{number}.pid"
    with subprocess.Popen(["sh", "-c", wrapped], cwd=at, env=environment) as shell:
        while shell.poll() is None:
            if watch.rules and stopped_at(log.read_text().splitlines(), *watch) is not None:
                (child,) = psutil.Process(shell.pid).children()
                child.terminate()
                shell.wait()
                return STOPPED, log.read_text()
            time.sleep(0.02)
    return shell.returncode, log.read_text()


def stopped_at(lines: Sequence[str], rules: Sequence[dict[str, Any]], objective: str, kind: str) -> int | None:
    """The line (from 0) at which the collector stops a trial: each rule is looked at once, at the report ``startStep`` of its
    metric, or from the first on where that is 0; of the objective it is the best so far that counts."""
    left, seen, best = list(rules), dict.fromkeys((rule["name"] for rule in rules), 0), None
    for place, line in enumerate(lines):
        for match in FILTER.finditer(line):
            if match[1] not in seen or not match[2]:
                continue
            value = float(match[2])
            seen[match[1]] += 1
            if match[1] == objective:
                best = value if best is None else max(best, value) if kind == "maximize" else min(best, value)
                value = best
            left = [
                rule
                for rule in left
                if rule["name"] != match[1] or rule["startStep"] not in (0, seen[match[1]]) or not met(rule, value)
            ]
        if rules and not left:
            return place
    return None


def met(rule: dict[str, Any], value: float) -> bool:
    bound = float(rule["value"])
    return {"equal": value == bound, "less": value < bound, "greater": value > bound}[rule["comparison"]]


def reported(text: str, metric: str) -> list[str]:
    """All values of a metric, in order."""
    return [match[2] for line in text.splitlines() for match in FILTER.finditer(line) if match[1] == metric]


def collected(text: str, wanted: list[str]) -> dict[str, dict[str, str]]:
    """Metric -> its latest, smallest and largest value, as texts."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        for match in FILTER.finditer(line):
            if match[1] in wanted:
                found.setdefault(match[1], []).append(match[2])
    return {
        name: {"latest": values[-1], "min": _extreme(min, values), "max": _extreme(max, values)}
        for name, values in found.items()
    }


def _extreme(of: Any, values: list[str]) -> str:
    numbers = [value for value in values if value]
    return str(of(numbers, key=float)) if numbers else ""


def _metrics(trial: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["latest"] for one in trial["status"]["observation"]["metrics"]}

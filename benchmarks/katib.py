"""How long Katib waits for suggestions, and health meanwhile.

    python benchmarks/katib.py [--quick] [--json katib.json] [--searchers nac,random]

Bars: 100 suggestions from a history of 1,000 trials in under 1 s for nac, random and evolution, in under 20 s for bayes and
tpe; health answers within 0.1 s meanwhile.

The real `amla katib serve` in a process of its own, asked over gRPC on loopback as Katib's controller asks: the history is
built by the service itself, 100 suggestions a request, each then given a made-up result (accuracy and statistics drawn at
random). *Cold* is the last request to a service that was just started and knows nothing, without the start itself; *warm* is
the same one to the service that has made the history. Health is asked every 10 ms while the cold request is answered, over a
channel of its own; told is the longest answer. *CPU* is what the service's processes used for the cold request: on a machine that
others use too, the wall clock says little else than how many they are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from amla.services.katib import slots
from amla.services.katib.setup import algorithm_name, setup_of
from amla.services.katib.wire import PACKAGE, enum, message

#: Seconds for 100 suggestions, by searcher; and for an answer of health.
BARS = {"nac": 1.0, "random": 1.0, "evolution": 1.0, "bayes": 20.0, "tpe": 20.0}
HEALTH = 0.1
BATCH, TRIALS, QUICK = 100, 1000, 200
#: CIFAR-10: the sizes of images, classes and training split.
SIZES = {"shape": (32, 32, 3), "classes": 10, "train_size": 45000}
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PAUSE = 0.01


@contextmanager
def service() -> Iterator[tuple[int, psutil.Process]]:
    """``amla katib serve`` on a free port, once its worker answers; and its process."""
    words = [str(Path(sys.executable).with_name("amla")), "katib", "serve", "--port", "0", "--host", "127.0.0.1"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port = int(process.stderr.readline().rsplit(":", 1)[1])
        try:
            ask(port, experiment("random"), [])  # everything is imported now
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()


def experiment(searcher: str) -> Any:
    """As `amla katib experiment cifar10` asks for, with 100 trials at once."""
    found = message("Experiment")(name="one")
    found.spec.algorithm.algorithm_name = algorithm_name(searcher)
    found.spec.max_trial_count = 2 * TRIALS
    found.spec.objective.type = enum("ObjectiveType", "MAXIMIZE")
    found.spec.objective.objective_metric_name = "valid_accuracy"
    found.spec.nas_config.graph_config.input_sizes.extend(SIZES["shape"])
    found.spec.nas_config.graph_config.output_sizes.append(SIZES["classes"])
    settings = {"train_size": str(SIZES["train_size"])}
    settings |= {"chains": str(BATCH)} if searcher == "nac" else {}
    for name, value in settings.items():
        found.spec.algorithm.algorithm_settings.add(name=name, value=value)
    needed = setup_of(found).slots()
    found.spec.objective.additional_metric_names.extend(slots.name(number) for number in range(needed))
    return found


def ask(port: int, asked: Any, trials: list[Any]) -> Any:
    """The next 100 suggestions."""
    request = message("GetSuggestionsRequest")(
        experiment=asked, trials=trials, current_request_number=BATCH, total_request_number=len(trials) + BATCH
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}", UNLIMITED) as channel:
        method = channel.unary_unary(
            f"/{PACKAGE}.Suggestion/GetSuggestions",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=message("GetSuggestionsReply").FromString,
        )
        reply = method(request, timeout=600)
    assert len(reply.parameter_assignments) == BATCH
    return reply


def ended(reply: Any, asked: Any, rng: np.random.Generator) -> list[Any]:
    """The trials of a reply, each with a made-up result."""
    trials = []
    for given in reply.parameter_assignments:
        said = {one.name: one.value for one in given.assignments}
        trial = message("Trial")(name=f"one-{said['number']}")
        trial.spec.parameter_assignments.assignments.extend(
            message("Assignment")(name=one.name, value=one.value) for one in given.assignments
        )
        trial.status.condition = enum("TrialConditionType", "SUCCEEDED")
        for name in ("valid_accuracy", *asked.spec.objective.additional_metric_names):
            trial.status.observation.metrics.add(name=name, value=repr(float(rng.random())))
        trials.append(trial)
    return trials


def cpu_of(process: psutil.Process) -> float:
    """Seconds of processor time that a process and its children have used."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def slowest_health(port: int, call: Callable[[], Any]) -> tuple[float, float, int]:
    """Seconds of a call, the longest that health took meanwhile, and how often it was asked."""
    took: list[float] = []
    over = threading.Event()

    def probe() -> None:
        request = health_pb2.HealthCheckRequest(service="manager.v1beta1.Suggestion")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            stub.Check(request, timeout=5)  # connected
            connected.set()
            while not over.is_set():
                took.append(timed(lambda: stub.Check(request, timeout=5)))
                time.sleep(PAUSE)

    connected = threading.Event()
    thread = threading.Thread(target=probe)
    thread.start()
    connected.wait()
    seconds = timed(call)
    over.set()
    thread.join()
    return seconds, max(took), len(took)


def measured(searcher: str, count: int) -> dict[str, Any]:
    """One searcher's row."""
    asked, rng, trials = experiment(searcher), np.random.default_rng(0), []
    with service() as (port, _):
        while len(trials) < count:
            trials += ended(ask(port, asked, trials), asked, rng)
        ask(port, asked, trials)
        warm = timed(lambda: ask(port, asked, trials))
    with service() as (port, process):
        before = cpu_of(process)
        cold, health, probes = slowest_health(port, lambda: ask(port, asked, trials))
        cpu = cpu_of(process) - before
    size = sum(trial.ByteSize() for trial in trials)
    return {
        "searcher": searcher,
        "trials": count,
        "request_mb": round(size / 1e6, 2),
        "cold_seconds": round(cold, 3),
        "cold_cpu_seconds": round(cpu, 3),
        "warm_seconds": round(warm, 3),
        "bar_seconds": BARS[searcher],
        "health_seconds": round(health, 4),
        "health_asked": probes,
        "within": cold < BARS[searcher] and health < HEALTH,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"a history of {QUICK} trials")
    parser.add_argument("--searchers", default=",".join(BARS), help="names with commas between")
    parser.add_argument("--json", type=Path, help="where the figures go")
    asked = parser.parse_args()
    rows = []
    print("searcher   trials  request      cold   CPU of it      warm     bar    health (asked)")
    for searcher in asked.searchers.split(","):
        row = measured(searcher, QUICK if asked.quick else TRIALS)
        rows.append(row)
        print(
            f"{row['searcher']:10} {row['trials']:6} {row['request_mb']:5.1f} MB {row['cold_seconds']:7.2f} s",
            f"{row['cold_cpu_seconds']:7.2f} s {row['warm_seconds']:7.2f} s {row['bar_seconds']:5.0f} s",
            f"{row['health_seconds'] * 1000:6.1f} ms ({row['health_asked']})",
            "" if row["within"] else "MISSED",
            flush=True,
        )
    if asked.json:
        machine: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()}
        machine |= {"python": platform.python_version(), "machine": platform.machine(), "grpc": grpc.__version__}
        asked.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

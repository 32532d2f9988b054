"""The gRPC server: suggestions, early stopping and health, on one port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from amla.errors import ConfigError
from amla.services.katib.earlystopping import EarlyStoppingService
from amla.services.katib.wire import PACKAGE, SERVICES, message
from amla.services.katib.worker import METHODS, Worker

#: Katib's own.
PORT = 6789
#: What Katib's probe asks for; any other name is NOT_FOUND.
PROBED = ("", "manager.v1beta1.Suggestion", f"{PACKAGE}.Suggestion")
#: A request holds all trials of an Experiment: it has no size that would be too much.
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
#: Threads. Calls that wait for their turn must leave some to health.
THREADS = 32
#: Seconds that calls in progress get when the server stops.
GRACE = 5.0


@contextlib.contextmanager
def serving(port: int = PORT, host: str = "[::]") -> Iterator[int]:
    """A server that answers while the context lasts; gives its port (0 asks for a free one).

    Errors: ``ConfigError`` where the port is taken.
    """
    server = grpc.server(ThreadPoolExecutor(THREADS), options=UNLIMITED)
    probes = health.HealthServicer()
    for probed in PROBED:
        probes.set(probed, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(probes, server)
    try:
        taken = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise ConfigError(f"--port {port}: it is taken; choose another") from None
    with contextlib.closing(Worker()) as worker:
        server.add_generic_rpc_handlers((_suggestion(worker), _early_stopping()))
        server.start()
        try:
            yield taken
        finally:
            probes.enter_graceful_shutdown()
            server.stop(GRACE).wait()


def _suggestion(worker: Worker) -> Any:
    """The service ``Suggestion``: its bytes go to the worker and come from there."""

    def asking(method: str) -> Any:
        def ask(request: bytes, context: grpc.ServicerContext) -> bytes:
            code, content = worker.ask(method, request)
            if code is not grpc.StatusCode.OK:
                context.abort(code, content.decode())
            return content

        return grpc.unary_unary_rpc_method_handler(ask)

    name = f"{PACKAGE}.Suggestion"
    return grpc.method_handlers_generic_handler(name, {method: asking(method) for method in METHODS})


def _early_stopping() -> Any:
    """The service ``EarlyStopping``, which only waits for others."""
    service = EarlyStoppingService()
    methods = {
        method: grpc.unary_unary_rpc_method_handler(
            getattr(service, method),
            request_deserializer=message(f"{method}Request").FromString,
            response_serializer=message(f"{method}Reply").SerializeToString,
        )
        for method in SERVICES["EarlyStopping"]
    }
    return grpc.method_handlers_generic_handler(f"{PACKAGE}.EarlyStopping", methods)

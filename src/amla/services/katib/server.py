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
from amla.services.katib.suggestion import SuggestionService
from amla.services.katib.wire import PACKAGE, SERVICES, message

#: Katib's own.
PORT = 6789
#: What Katib's probe asks for; any other name is NOT_FOUND.
PROBED = ("", "manager.v1beta1.Suggestion", f"{PACKAGE}.Suggestion")
#: A request holds all trials of an Experiment: it has no size that would be too much.
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
WORKERS = 8
#: Seconds that calls in progress get when the server stops.
GRACE = 5.0


@contextlib.contextmanager
def serving(port: int = PORT, host: str = "[::]") -> Iterator[int]:
    """A server that answers while the context lasts; gives its port (0 asks for a free one).

    Errors: ``ConfigError`` where the port is taken.
    """
    server = grpc.server(ThreadPoolExecutor(WORKERS), options=UNLIMITED)
    services = {"Suggestion": SuggestionService(), "EarlyStopping": EarlyStoppingService()}
    server.add_generic_rpc_handlers(tuple(_handlers(name, service) for name, service in services.items()))
    probes = health.HealthServicer()
    for probed in PROBED:
        probes.set(probed, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(probes, server)
    try:
        taken = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise ConfigError(f"--port {port}: it is taken; choose another") from None
    server.start()
    try:
        yield taken
    finally:
        probes.enter_graceful_shutdown()
        server.stop(GRACE).wait()


def _handlers(name: str, service: Any) -> Any:
    """The methods of a service of ours under Katib's names."""
    methods = {
        method: grpc.unary_unary_rpc_method_handler(
            getattr(service, method),
            request_deserializer=message(f"{method}Request").FromString,
            response_serializer=message(f"{method}Reply").SerializeToString,
        )
        for method in SERVICES[name]
    }
    return grpc.method_handlers_generic_handler(f"{PACKAGE}.{name}", methods)

"""The part of a cluster's API that concerns Katib, over HTTP: custom objects with versions, and their status."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

_PATH = re.compile(r"/apis/(?P<group>[^/]+)/(?P<version>[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/?]+)"
                   r"(/(?P<name>[^/?]+))?(?P<status>/status)?(\?.*)?$")  # fmt: skip


class Cluster:
    """Objects by (namespace, plural, name). ``rivals``: how often somebody else changes an object that was just read."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.rivals = 0
        self.lock = threading.Lock()

    def put(self, namespace: str, plural: str, resource: dict[str, Any]) -> dict[str, Any]:
        resource["metadata"] |= {
            "namespace": namespace,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        self.objects[namespace, plural, resource["metadata"]["name"]] = resource
        return resource

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        found = _PATH.match(path)
        if found is None:
            return 404, {"reason": "NotFound"}
        with self.lock:
            return self._answer(method, found, body)

    def _answer(self, method: str, found: re.Match[str], body: Any) -> tuple[int, Any]:
        at = (found["namespace"], found["plural"])
        if method == "POST":
            return 201, self.put(*at, body)
        if found["name"] is None:
            return 200, {"items": [known for key, known in self.objects.items() if key[:2] == at]}
        known = self.objects.get((*at, found["name"]))
        if known is None:
            return 404, {"reason": "NotFound"}
        if method == "PATCH":
            return self._patched(known, body, status=bool(found["status"]))
        given = json.loads(json.dumps(known))
        if self.rivals:
            self.rivals -= 1
            _changed(known)
        return 200, given

    def _patched(self, known: dict[str, Any], body: dict[str, Any], status: bool) -> tuple[int, Any]:
        """A merge patch; of the status alone where that is the resource."""
        asked = body.get("metadata", {}).get("resourceVersion")
        if asked is not None and asked != known["metadata"]["resourceVersion"]:
            return 409, {"reason": "Conflict"}
        for key in ("status",) if status else ("spec",):
            known[key] = {**known.get(key, {}), **body.get(key, {})}
        _changed(known)
        return 200, known


def _changed(known: dict[str, Any]) -> None:
    known["metadata"]["resourceVersion"] = str(int(known["metadata"]["resourceVersion"]) + 1)


@contextlib.contextmanager
def served(cluster: Cluster, at: Path, namespace: str = "team") -> Iterator[Path]:
    """The API on loopback; gives a user's configuration that leads there."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            code, answer = cluster.answer(self.command, self.path, body)
            text = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = _any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    file = at / "kubeconfig"
    file.write_text(yaml.safe_dump(_configuration(server.server_port, namespace)))
    try:
        yield file
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _configuration(port: int, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
    }

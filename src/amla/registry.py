"""Name -> plug-in, by entry points: a plug-in of another package is found exactly as our own are.

A plug-in is imported only when it is asked for. Where the import fails because a library is missing, the error says
which extra brings it.

A plug-in that is not registered can be named by its import path, ``package.module:Class`` or ``package.module.Class``
(the latter for datasets, whose names end at the first colon).
"""

from __future__ import annotations

import functools
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from amla.errors import PluginError

#: Where each kind of plug-in is registered, and how a message calls one.
GROUPS = {
    "spaces": "space",
    "searchers": "searcher",
    "trainers": "trainer",
    "exporters": "exporter",
    "datasets": "dataset",
    "executors": "executor",
}

#: Library that cannot be imported -> the extra that installs it.
EXTRA_OF = {
    "torch": "torch",
    "onnx": "torch",
    "onnxruntime": "torch",
    "matplotlib": "plots",
    "keras": "keras",
    "jax": "keras",
    "datasets": "data",
    "pyarrow": "data",
    "optuna": "tpe",
    "ray": "ray",
    "kubernetes": "kubernetes",
    "grpc": "katib",
    "grpc_health": "katib",
    "google": "katib",
    "kubeflow": "kubeflow",
    "fastapi": "server",
    "uvicorn": "server",
}


@functools.cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"amla.{kind}")}


def names(kind: str) -> list[str]:
    """The names of all plug-ins of a kind (a key of ``GROUPS``), sorted."""
    return sorted(_plugins(kind))


def load(kind: str, name: str) -> Any:
    """The plug-in itself, usually a class.

    Errors: ``PluginError`` where nobody has that name (the message lists those that exist) or its library is missing
    (the message says what to install).
    """
    registered = _plugins(kind).get(name)
    found = registered or _by_path(kind, name)
    if found is None:
        known = ", ".join(names(kind)) or "none installed"
        raise PluginError(f"no {GROUPS[kind]} is called {name!r}; there are: {known}")
    try:
        return found.load()
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if registered is None and f"{found.module}.".startswith(f"{error.name}."):
            raise PluginError(f"{GROUPS[kind]} {name!r}: there is no module {error.name!r} here") from error
        if library == "amla":
            raise
        raise PluginError(missing(library, f"{GROUPS[kind]} {name!r}")) from error
    except AttributeError as error:
        if registered is not None or error.obj is not sys.modules.get(found.module):
            raise
        raise PluginError(f"{GROUPS[kind]} {name!r}: {found.module} has no {found.attr!r}") from error


def _by_path(kind: str, name: str) -> EntryPoint | None:
    """The plug-in that an import path names; None where the name is no path."""
    module, colon, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        return None
    return EntryPoint(name=name, value=f"{module}:{attribute}", group=f"amla.{kind}")


def missing(library: str, what: str) -> str:
    """The one line for a library that is not installed, with what to type."""
    extra = EXTRA_OF.get(library)
    install = f"pip install 'amla[{extra}]'" if extra else f"pip install {library}"
    return f"{what} needs the library {library!r}, which is not installed: {install}"

"""Libraries that only some commands need."""

from __future__ import annotations

import importlib.util

from amla import registry
from amla.errors import PluginError


def needs(*libraries: str, what: str) -> None:
    """Errors: ``PluginError`` that says what to install, where one of these is missing."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise PluginError(registry.missing(library, what))

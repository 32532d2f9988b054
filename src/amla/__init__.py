"""AMLA: neural architecture construction, and fair comparison of architecture-search algorithms.

``amla.search("digits")`` constructs a network; ``amla.ImageClassifier`` does so with scikit-learn's conventions. Nothing
heavy is imported until it is used.
"""

from __future__ import annotations

from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amla.api import SearchResult, Watch, resume, run, search
    from amla.classifier import ImageClassifier
    from amla.comparing import compare

__version__ = _version("amla")
__all__ = ["ImageClassifier", "SearchResult", "Watch", "__version__", "compare", "resume", "run", "search"]

_PLACES = {
    "ImageClassifier": "amla.classifier",
    "SearchResult": "amla.api",
    "Watch": "amla.api",
    "compare": "amla.comparing",
    "resume": "amla.api",
    "run": "amla.api",
    "search": "amla.api",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'amla' has no attribute {name!r}")

"""What is to be merged into Katib's ``katib-config``: an entry for every searcher, all with one image, and for early stopping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amla.services.katib.setup import algorithm_name
from amla.services.katib.stopping import ALGORITHMS
from amla.services.katib.templates import IMAGE

#: The default of 100Mi is less than the libraries take.
MEMORY = "1Gi"


def config(searchers: Sequence[str], image: str = IMAGE, stopping_image: str | None = None) -> dict[str, Any]:
    """A ``KatibConfig`` with these searchers only. Early stopping has an image of its own, because Katib takes no command for it:
    by default that of the searchers with ``-early-stopping`` behind its tag. Errors: ``ConfigError`` where a name is no
    algorithm's."""
    entries = [
        {
            "algorithmName": algorithm_name(name),
            "image": image,
            "command": ["amla", "katib", "serve"],
            "resources": {
                "requests": {"cpu": "100m", "memory": "512Mi"},
                "limits": {"cpu": "1", "memory": MEMORY},
            },
        }
        for name in searchers
    ]
    stopping = [
        {
            "algorithmName": name,
            "image": stopping_image or f"{image}-early-stopping",
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": MEMORY}},
        }
        for name in ALGORITHMS
    ]
    return {
        "apiVersion": "config.kubeflow.org/v1beta1",
        "kind": "KatibConfig",
        "runtime": {"suggestions": entries, "earlyStoppings": stopping},
    }

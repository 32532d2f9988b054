"""``network.py``: the network as plain torch code that a person would keep. It does not import amla."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights, live_nodes
from amla.exporters.chains import Layout
from amla.exporters.folder import check
from amla.exporters.modules import ACTIVATIONS, norm
from amla.exporters.pretty import INDENT, Items, lines, string
from amla.spec.costs import costs
from amla.spec.graph import ActivationNode, NormNode

FILE = "network.py"
#: Channels -> what Pillow calls such an image.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
SUMMARIES = {
    "macro": "Stages of layers, each layer some branches side by side.",
    "micro": "A stack of cells.",
    "graph": "A network made elsewhere.",
}


class SourceExporter(Exporter):
    """Writes ``network.py``, which loads the ``model.safetensors`` beside it. The same text for the same model."""

    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:
        check(model, weights)
        artifacts.write(str(folder), FILE, network_source(model).encode())
        return [folder / FILE]


def network_source(model: Model) -> str:
    """The text of ``network.py``, formatted as ``ruff format`` would with lines of 120."""
    graph = model.graph().inference()
    nodes = live_nodes(graph)
    data = model.data
    layout = Layout(nodes, graph.output, depth=1 if model.architecture.kind == "micro" else 2)
    # One style a network: any norm and any activation stand for all of them.
    first_norm = next((node for node in nodes if isinstance(node, NormNode)), None)
    first_activation = next((node for node in nodes if isinstance(node, ActivationNode)), None)
    places = [f"{string(node)}: {string(place)}" for chain in layout.chains for node, place in chain.places()]
    return rendered(
        "network.py.jinja",
        **described(model),
        summary=SUMMARIES[model.architecture.kind],
        input_shape=data.input_shape,
        helpers=layout.helpers,
        norm=first_norm and norm(first_norm, "outputs"),
        activation=first_activation and ACTIVATIONS[first_activation.kind],
        attributes="\n".join(layout.attributes(INDENT * 2)),
        forward="\n".join(layout.forward(INDENT * 2)),
        places="\n".join(["PLACES = {", *(f"{INDENT}{place}," for place in places), "}"]),
        mode=MODES.get(data.input_shape[0]) if data.dtype == "uint8" else None,
    )


# ------------------------------------------------------------------------------------------- what both kinds of source share
def described(model: Model) -> dict[str, str]:
    """What a source file says of the network and its data, whatever library it is written for."""
    data, cost = model.data, costs(model.graph().inference())
    return {
        "title": f"A classifier of {_plain(data.name)}, found by AMLA (neural architecture construction).",
        "facts": (
            f"{data.num_classes} classes, {cost.parameters:,} parameters, {cost.flops:,} multiply-adds an image, "
            f"{cost.depth} layers deep."
        ),
        "classes": _constant("CLASSES", [string(name) for name in data.classes]),
        "mean": _constant("MEAN", [repr(value) for value in data.mean]),
        "std": _constant("STD", [repr(value) for value in data.std]),
        "scale": (
            " with values in [0, 1]" if data.dtype == "uint8" else " on the scale of the data that it was trained on"
        ),
    }


def rendered(template: str, **parts: Any) -> str:
    """The text of a template."""
    text = _environment().get_template(template).render(**parts) + "\n"
    return re.sub(r"\n{4,}", "\n\n\n", text)  # a helper that is left out leaves its blank lines


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("amla.exporters"),
        undefined=StrictUndefined,
        autoescape=False,  # Python, not HTML
    )


def _constant(name: str, values: list[str]) -> str:
    return "\n".join(lines(f"{name} = ", Items(values, "()")))


def _plain(text: str) -> str:
    """Text that may stand in a docstring."""
    return " ".join("".join(c for c in text if c.isprintable()).replace("\\", "/").replace('"', "'").split())

"""``diagram.svg``: a network as a picture; beside its predecessor, what was pruned (red, struck) and what grew (green)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from amla import artifacts
from amla.exporters.base import Exporter, Model, Weights
from amla.exporters.diagram_cells import draw_cells
from amla.exporters.diagram_graph import as_cell
from amla.exporters.diagram_layers import draw_layers
from amla.exporters.diagram_parts import Drawing, Statistics
from amla.spec.architecture import AnyArchitecture, GraphArchitecture, MacroArchitecture, MicroArchitecture
from amla.spec.costs import costs
from amla.spec.graph import Shape
from amla.spec.lower import lower

FILE = "diagram.svg"


class DiagramExporter(Exporter):
    """The picture of a network by itself; the report draws those that compare."""

    files: ClassVar[tuple[str, ...]] = (FILE,)

    def export(self, model: Model, weights: Weights, folder: Path) -> list[Path]:  # noqa: ARG002  # a picture needs none
        data = model.data
        picture = diagram(model.architecture, data.input_shape, data.num_classes, title=data.name)
        artifacts.write(str(folder), FILE, picture.encode())
        return [folder / FILE]


def diagram(  # noqa: PLR0913  # what may be shown, each by its name
    architecture: AnyArchitecture,
    input_shape: Shape,
    num_classes: int,
    *,
    parent: AnyArchitecture | None = None,
    statistics: Statistics | None = None,
    parent_statistics: Statistics | None = None,
    statistic: str = "",
    title: str = "",
    facts: str = "",
) -> str:
    """The picture as self-contained SVG text.

    ``input_shape`` is (channels, height, width). With ``parent`` (of the same kind) the two are compared. Blocks get a bar
    for the value of ``statistic`` in ``statistics`` (block name -> statistic -> value), those that were pruned for the one
    in ``parent_statistics``; skips are as thick as their ``scalar``. Without ``statistic`` there are no bars. ``facts``
    follow size and cost in the second line. Errors: ``SpecError`` where the network cannot be had at this size.
    """
    graph = lower(architecture, input_shape, num_classes)
    cost = costs(graph)
    size = f"{cost.parameters:,} parameters  ·  {cost.flops:,} multiply-adds  ·  depth {cost.depth}"
    drawing = Drawing(
        shapes={node.name: node.shape for node in graph.nodes},
        statistics=statistics or {},
        parent_statistics=parent_statistics or {},
        statistic=statistic,
        compares=parent is not None and parent.kind == architecture.kind,
        title=title,
        subtitle=f"{size}  ·  {facts}" if facts else size,
    )
    if isinstance(architecture, GraphArchitecture):
        return draw_cells(
            drawing, as_cell(graph), as_cell(parent.graph) if isinstance(parent, GraphArchitecture) else None
        )
    if isinstance(architecture, MacroArchitecture):
        return draw_layers(drawing, architecture, parent if isinstance(parent, MacroArchitecture) else None)
    return draw_cells(drawing, architecture, parent if isinstance(parent, MicroArchitecture) else None)

"""Races of searchers on a table, for people: regret curves as a picture, and one page with the numbers."""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from amla import artifacts, registry
from amla.engine.benchmark import Curve, Row
from amla.errors import PluginError

#: Inches of one panel, and dots an inch.
PANEL, DPI = (5.2, 3.6), 110


class Ran(NamedTuple):
    """A race that was run."""

    row: Row
    curve: Curve


def require_plots() -> None:
    """Errors: ``PluginError`` where matplotlib is missing, with what to install."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise PluginError(registry.missing("matplotlib", "a plot")) from error


def write_races(ran: Sequence[Ran], command: str, folder: Path) -> list[Path]:
    """Write ``regret.png``, ``regret.html`` (with the picture and the numbers inside) and ``rows.json``. ``command``: what
    was typed. Returns where they are."""
    picture = regret_png(ran)
    page = _template().render(
        rows=[one.row for one in ran], command=command, picture=base64.b64encode(picture).decode()
    )
    rows = json.dumps({"rows": [one.row.to_data() for one in ran]}, indent=2) + "\n"
    files = {"regret.png": picture, "regret.html": page.encode(), "rows.json": rows.encode()}
    for name, content in files.items():
        artifacts.write(str(folder), name, content)
    return [folder / name for name in files]


def regret_png(ran: Sequence[Ran]) -> bytes:
    """Mean regret with its standard error against evaluations and against simulated hours, a row of panels for each data
    set. Where a searcher was raced at several lengths, the longest is drawn."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(one.row.dataset for one in ran))
    figure = Figure(figsize=(2 * PANEL[0], len(names) * PANEL[1]), dpi=DPI, layout="constrained")
    for panels, name in zip(figure.subplots(len(names), 2, squeeze=False), names, strict=True):
        longest = {
            one.row.searcher: one
            for one in sorted(ran, key=lambda one: one.row.evaluations_mean)
            if one.row.dataset == name
        }
        for one in longest.values():
            curve = one.curve
            for panel, x in ((panels[0], range(1, len(curve.regret) + 1)), (panels[1], curve.seconds / 3600.0)):
                (line,) = panel.plot(x, curve.regret, label=one.row.searcher, linewidth=1.4)
                low, high = curve.regret - curve.error, curve.regret + curve.error
                panel.fill_between(x, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        _dress(panels[0], name, "evaluations")
        _dress(panels[1], name, "simulated hours of training")
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _dress(panel: Any, title: str, x_name: str) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_title(title)
    panel.set_xlabel(x_name)
    panel.set_ylabel("test regret, points")
    panel.grid(visible=True, which="both", linewidth=0.3, alpha=0.6)
    panel.legend(fontsize="small")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amla.reports"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("races.html")

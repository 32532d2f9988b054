"""Plots of a comparison, as SVG text: accuracy against cost, anytime curves, Pareto fronts."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amla import registry
from amla.errors import PluginError
from amla.reports.charts import frontier
from amla.reports.comparison import Arm, Member

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Points in time at which an anytime curve is read.
GRID = 400
#: What accuracy is set against, and how its axis is called.
PRICES = {"parameters": "parameters", "flops": "multiply-adds of one image", "latency_ms": "latency of one image, ms"}


def plots(arms: Sequence[Arm]) -> dict[str, str]:
    """Name -> SVG text, the same bytes for the same arms. Errors: ``PluginError`` where matplotlib is not installed."""
    arms = [arm for arm in arms if arm.members]
    found = {"anytime": _drawn(_anytime, arms, 1), "cost": _drawn(_cost, arms, 1)}
    priced = [price for price in PRICES if all(price in m.figures for arm in arms for m in arm.members)]
    return found | {"pareto": _drawn(lambda axes, arms: _fronts(axes, arms, priced), arms, len(priced))}


def check_library() -> None:
    """Errors: ``PluginError``, with what to install, where plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise PluginError(registry.missing("matplotlib", "a plot")) from None


def colours(arms: Sequence[Arm]) -> dict[str, str]:
    """A colour for each arm, told apart by people who see few colours too (Okabe and Ito's palette)."""
    palette = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
    return {arm.name: palette[number % len(palette)] for number, arm in enumerate(arms)}


def best_so_far(member: Member) -> list[tuple[float, float]]:
    """(seconds, best validation accuracy until then), of everything trained, in the order in which it ended."""
    clock, best = 0.0, -1.0
    points: list[tuple[float, float]] = []
    for trial in member.trials:
        if trial.spec.purpose == "test" or trial.result is None:
            continue
        read = [(p.seconds, p.accuracy) for p in trial.result.curve if p.accuracy is not None]
        for seconds, accuracy in [*read, (trial.result.cost.seconds, trial.result.accuracy)]:
            best = max(best, accuracy)
            points.append((clock + seconds, best))
        clock += trial.result.cost.seconds
    return [point for point in points if point[1] >= 0.0]


def _drawn(draw: Callable[[Any, Sequence[Arm]], None], arms: Sequence[Arm], panels: int) -> str:
    """SVG text of a figure with so many panels side by side. Nothing of the environment gets into it."""
    check_library()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.hashsalt": "amla",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e8ec",
        "axes.axisbelow": True,
    }
    with rc_context(style):
        figure: Figure = Figure(figsize=(7.2 if panels == 1 else 3.9 * panels, 4.0), layout="constrained")
        axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
        draw(axes, arms)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue())


def _inline(svg: str) -> str:
    """Without prolog, metadata and a fixed size, so that it can stand in a page as in a file of its own."""
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r' (?:width|height)="[0-9.]+pt"', "", body, count=2)


def _anytime(axes: Sequence[Axes], arms: Sequence[Arm]) -> None:
    """The mean over an arm's seeds from when all have a network, and between which values they lie."""
    for arm in arms:
        colour = colours(arms)[arm.name]
        curves = [best_so_far(member) for member in arm.members]
        begin, end = max(c[0][0] for c in curves), max(c[-1][0] for c in curves)
        grid = np.linspace(begin, end, GRID)
        values = 100.0 * np.array([_read(curve, grid) for curve in curves])
        axes[0].step(grid, values.mean(0), where="post", color=colour, label=arm.name, linewidth=1.8)
        axes[0].fill_between(grid, values.min(0), values.max(0), step="post", color=colour, alpha=0.12, linewidth=0)
        axes[0].plot(grid[-1], values.mean(0)[-1], "o", color=colour, markersize=4)
    axes[0].set_xlabel("seconds of search, selection and final training")
    axes[0].set_ylabel("best validation accuracy so far, %")
    axes[0].set_title("Anytime: mean over the seeds; shaded, from the least to the best", fontsize=10, loc="left")


def _read(curve: Sequence[tuple[float, float]], grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A step curve at the points of a grid."""
    times, values = np.array(curve).T
    found: npt.NDArray[np.float64] = values[np.searchsorted(times, grid + 1e-9, side="right") - 1]
    return found


def _cost(axes: Sequence[Axes], arms: Sequence[Arm]) -> None:
    for arm in arms:
        _dots(axes[0], arm, "total_seconds", colours(arms)[arm.name])
    axes[0].set_xlabel("seconds of search, selection and final training")
    axes[0].set_xlim(0, 1.06 * max(m.figures["total_seconds"] for arm in arms for m in arm.members))
    axes[0].set_ylabel("test accuracy, %")
    axes[0].set_title("Accuracy against total cost: every seed, and the mean", fontsize=10, loc="left")


def _fronts(axes: Sequence[Axes], arms: Sequence[Arm], prices: Sequence[str]) -> None:
    """The stairs join those networks that no other one beats at the same price or less."""
    for panel, price in zip(axes, prices, strict=True):
        for arm in arms:
            _dots(panel, arm, price, colours(arms)[arm.name])
        all_ = [(m.figures[price], 100 * m.figures["test_accuracy"]) for arm in arms for m in arm.members]
        front = frontier(all_)
        panel.step(*zip(*front, strict=True), where="post", color="#6a737d", linestyle=":", linewidth=1.2)
        panel.set_xlabel(PRICES[price])
    axes[0].set_ylabel("test accuracy, %")
    axes[0].set_title("Pareto fronts (dotted)", fontsize=10, loc="left")


def _dots(panel: Axes, arm: Arm, price: str, colour: str) -> None:
    x = [member.figures[price] for member in arm.members]
    y = [100 * member.figures["test_accuracy"] for member in arm.members]
    panel.plot(x, y, "o", color=colour, markersize=4, alpha=0.45)
    panel.plot(np.mean(x), np.mean(y), "D", color=colour, markersize=8, label=arm.name)

"""Tables and plots of what ``construct.py`` has kept: every row as it came out, differences paired by seed."""

from __future__ import annotations

import io
import itertools
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from construct_arms import Row, needed

from amla.reports.charts import short
from amla.reports.plots import check_library
from amla.reports.significance import difference
from amla.spec.statistics import agreement

#: What may rank branches, as ``rankings`` reads it.
STATISTICS = (
    "mean_square",
    "variance",
    "taylor",
    "covariance_entropy",
    "switched_off",
    "mean_square_before_norm",
    "variance_before_norm",
    "covariance_entropy_before_norm",
)
#: The share of a stage's branches that a construction prunes.
PRUNED = 1 / 3
#: Seeds from here on confirm what was chosen on those below it.
CONFIRMING = 10
#: Lines of a table's head.
HEAD = 2
#: Inches: of a plot, and of each arm where every arm has a line of its own.
HEIGHT, EACH = 4.4, 0.2
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")


def table(rows: Sequence[Row]) -> str:
    """Markdown: for each data set and setting the arms, the paired differences, the times and the rankings."""
    parts = []
    for data, setting in dict.fromkeys((row.data, row.setting) for row in rows):
        own = [row for row in rows if (row.data, row.setting) == (data, setting)]
        for phase, seeds in (("choosing", range(CONFIRMING)), ("confirming", range(CONFIRMING, 2**32))):
            trained = [row for row in own if not row.rankings and row.seed in seeds]
            if trained:
                parts += [f"## {Path(data).name}, setting `{setting}`, {phase}", ""]
                for lines in (arms_table(trained), pairs_table(trained), times_table(trained)):
                    parts += [*lines, ""] if len(lines) > HEAD else []
        parts += rankings_table([row for row in own if row.rankings])
    return "\n".join(parts)


# ----------------------------------------------------------------------------------------------------------------- tables
def arms_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| arm | seeds | valid % | test % | parameters | multiply-adds | steps | processor s | of that search |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for arm, own in by_arm(rows).items():
        cells = [
            arm,
            spelt(row.seed for row in own),
            spread(100 * row.valid for row in own),
            spread(100 * row.test for row in own),
            short(mean(row.parameters for row in own)),
            short(mean(row.flops for row in own)),
            f"{mean(row.steps for row in own):.0f}",
            spread((row.seconds for row in own), 1),
            f"{mean(row.search_seconds for row in own):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def pairs_table(rows: Sequence[Row]) -> list[str]:
    """Every arm against random pruning, every criterion against the paper's, and every arm against its controls; in points,
    by seeds that both have."""
    arms = by_arm(rows)
    pairs = [(arm, "random") for arm in arms if arm != "random" and needed(arm) is None and "random" in arms]
    bare = [arm for arm in arms if arm not in ("mean_square", "random") and needed(arm) is None and "+" not in arm]
    pairs += [(arm, "mean_square") for arm in bare if "mean_square" in arms]
    pairs += [(arm.rsplit(":", 1)[1], arm) for arm in arms if needed(arm) and arm.rsplit(":", 1)[1] in arms]
    lines = [
        "| difference | n | valid, points (95 %) | test, points (95 %) | p of test | parameters |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one, other in pairs:
        valid, test = (
            difference(
                {r.seed: 100 * getattr(r, key) for r in arms[one]}, {r.seed: 100 * getattr(r, key) for r in arms[other]}
            )
            for key in ("valid", "test")
        )
        if valid is None or test is None or test.kind != "paired":
            continue
        both = {r.seed for r in arms[one]} & {r.seed for r in arms[other]}
        sizes = [mean(r.parameters for r in arms[arm] if r.seed in both) for arm in (one, other)]
        told = [f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]" for found in (valid, test)]
        p = "-" if test.p is None else f"{test.p:.2g}"
        lines.append(f"| {one} - {other} | {test.n} | {' | '.join(told)} | {p} | {sizes[0] / sizes[1] - 1:+.1%} |")
    return lines


def times_table(rows: Sequence[Row]) -> list[str]:
    """How long an arm takes until it is as good on validation as its own final network, trained alone; for one of that
    training's whole time."""
    arms = by_arm(rows)
    lines = [
        "| arm | seeds | reached | time to the same validation accuracy / training alone | whole time / training alone |",
        "|---|---|---:|---:|---:|",
    ]
    for control in [arm for arm in arms if arm.startswith("scratch:") and needed(arm) in arms]:
        alone = {row.seed: row for row in arms[control]}
        own = [row for row in arms[str(needed(control))] if row.seed in alone]
        times = [reached(row, alone[row.seed].valid) for row in own]
        ratios = [t / alone[r.seed].seconds if t else float("inf") for t, r in zip(times, own, strict=True)]
        middle = statistics.median(ratios)
        told = "not reached" if middle == float("inf") else f"median {middle:.2f}"
        listed = ", ".join("-" if ratio == float("inf") else f"{ratio:.2f}" for ratio in ratios)
        whole = spread(row.seconds / alone[row.seed].seconds for row in own)
        count = f"{sum(time is not None for time in times)} of {len(own)}"
        seeds = spelt(row.seed for row in own)
        lines.append(f"| {needed(control)} | {seeds} | {count} | {told} ({listed}) | {whole} |")
    return lines


def rankings_table(rows: Sequence[Row]) -> list[str]:
    """How far two seeds agree about the branches of one stage of the first envelope, over all pairs of seeds."""
    if len(rows) < 2:
        return []
    steps = rows[0].steps
    lines = [
        f"### Rankings: {Path(rows[0].data).name}, setting `{rows[0].setting}`",
        "",
        f"Of the first envelope's branches after {steps} steps, {len(rows)} seeds, all pairs of them.",
        "",
        "| statistic | Kendall's tau between seeds, by stage | overlap of what would be pruned (chance 0.33) |",
        "|---|---:|---:|",
    ]
    for name in STATISTICS:
        by_stage = [stages_of(row, name) for row in rows]
        taus, overlaps = [], []
        for stage in by_stage[0]:
            pairs = list(itertools.combinations([one[stage] for one in by_stage], 2))
            found = [tau for one, other in pairs if (tau := agreement(one, other)) is not None]
            taus.append(f"{mean(found):.2f}" if found else "-")
            overlaps.append(mean(overlap(one, other) for one, other in pairs))
        lines.append(f"| {name} | {', '.join(taus)} | {mean(overlaps):.2f} |")
    return [*lines, ""]


# ---------------------------------------------------------------------------------------------------------------- figures
def by_arm(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """In the order in which arms came, each by seed."""
    return {
        arm: sorted((r for r in rows if r.arm == arm), key=lambda r: r.seed)
        for arm in dict.fromkeys(r.arm for r in rows)
    }


def reached(row: Row, accuracy: float) -> float | None:
    """Seconds of the processor when the last network was as good as this, between two readings along the straight line;
    None where it never was."""
    before = None
    for read in [read for read in row.curve if read.seconds > row.search_seconds]:
        if read.accuracy >= accuracy:
            if before is None or read.accuracy <= before.accuracy:
                return read.seconds
            part = (accuracy - before.accuracy) / (read.accuracy - before.accuracy)
            return before.seconds + max(0.0, part) * (read.seconds - before.seconds)
        before = read
    return None


def stages_of(row: Row, statistic: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for block, values in row.rankings.items():
        if statistic in values:
            found.setdefault(block.split("/")[0], {})[block] = values[statistic]
    return found


def overlap(one: dict[str, float], other: dict[str, float]) -> float:
    """Of what one would prune of a stage, the part that the other would prune too."""
    count = max(1, int(PRUNED * len(one)))
    weakest = [set(sorted(scores, key=scores.__getitem__)[:count]) for scores in (one, other)]
    return len(weakest[0] & weakest[1]) / count


def mean(values: Iterable[float]) -> float:
    return float(statistics.fmean(values))


def spread(values: Iterable[float], digits: int = 2) -> str:
    found = list(values)
    deviation = f" ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.{digits}f}{deviation}"


def spelt(seeds: Iterable[int]) -> str:
    """0, 1, 2, 5 -> ``0-2, 5``."""
    parts = []
    for _, group in itertools.groupby(enumerate(sorted(seeds)), key=lambda pair: pair[1] - pair[0]):
        own = [seed for _, seed in group]
        parts.append(f"{own[0]}" if len(own) == 1 else f"{own[0]}-{own[-1]}")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------------------------------ plots
def write_report(rows: Sequence[Row], out: Path) -> None:
    """``OUT.md`` gets its tables between two marks, where it has them; ``OUT-*.svg`` and ``OUT.json`` beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    plain = [row.model_copy(update={"data": Path(row.data).name}) for row in rows]
    page, (begin, end) = out.with_suffix(".md"), ("<!-- tables -->\n", "<!-- end -->\n")
    pictures = {}
    for data, setting in dict.fromkeys((row.data, row.setting) for row in plain):
        own = [row for row in plain if (row.data, row.setting) == (data, setting) and not row.rankings]
        if own:
            name = f"{out.name}-{data}-{setting}"
            pictures[f"{name}-arms.svg"] = drawn(_dots, own)
            pictures[f"{name}-curves.svg"] = drawn(_curves, own)
    text = table(plain) + "\n" + "\n\n".join(f"![{Path(name).stem}]({name})" for name in pictures) + "\n"
    old = page.read_text() if page.exists() else f"# Construction while training\n\n{begin}{end}"
    page.write_text(old.split(begin)[0] + begin + "\n" + text + "\n" + end + old.split(end)[1])
    for name, picture in pictures.items():
        (out.parent / name).write_text(picture)
    out.with_suffix(".json").write_text(json.dumps([row.to_data() for row in plain]) + "\n")


def drawn(draw: Any, rows: Sequence[Row]) -> str:
    """SVG text, the same bytes for the same rows."""
    check_library()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.hashsalt": "amla", "svg.fonttype": "none", "font.size": 9, "axes.grid": True}
    arms = by_arm(rows)
    height = max(HEIGHT, 1.0 + EACH * len(arms)) if draw is _dots else HEIGHT
    with rc_context(style | {"axes.axisbelow": True, "grid.color": "#e4e8ec"}):
        figure = Figure(figsize=(7.2, height), layout="constrained")
        draw(figure.subplots(), arms)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _dots(axes: Any, arms: dict[str, list[Row]]) -> None:
    """Every seed, and the mean."""
    names = list(arms)[::-1]
    for place, arm in enumerate(names):
        values = [100 * row.test for row in arms[arm]]
        axes.plot(values, [place] * len(values), "o", color=PALETTE[0], markersize=4, alpha=0.5)
        axes.plot(mean(values), place, "D", color=PALETTE[1], markersize=6)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("test accuracy, %: every seed (dots) and the mean (diamonds)")


def _curves(axes: Any, arms: dict[str, list[Row]]) -> None:
    """Validation accuracy along the processor's seconds: what was read, of every seed."""
    shown = [arm for arm in arms if needed(arm) is not None] or list(arms)
    shown = list(dict.fromkeys([*(str(needed(arm)) for arm in shown if needed(arm) in arms), *shown]))[: len(PALETTE)]
    for arm, colour in zip(shown, PALETTE, strict=False):
        for index, row in enumerate(arms[arm]):
            points = [(read.seconds, 100 * read.accuracy) for read in row.curve]
            label = arm if index == 0 else None
            axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, linewidth=1, alpha=0.6, label=label)
    axes.set_xlabel("seconds of the processor, search and final training")
    axes.set_ylabel("validation accuracy, %")
    axes.legend(frameon=False, fontsize=8)

"""Every criterion of NAC on real statistics, from the training to the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import amla
from amla.spaces.edits import branches_of
from amla.spec.architecture import MacroArchitecture

#: Eight searches, each trained for real: half a minute and more.
pytestmark = pytest.mark.slow

#: Criterion with the point, the ranks, the mode and the norm's scale that it is tried with.
CASES: dict[str, dict[str, Any]] = {
    "mean_square": {"mode": "afresh", "norm_scale": False},
    "variance": {"mode": "while_training", "point": "before_norm", "normalise": "layer"},
    "taylor": {"mode": "afresh", "normalise": "kind"},
    "covariance_entropy": {"mode": "while_training", "point": "before_norm", "norm_scale": False},
    "worst": {"mode": "while_training", "normalise": "kind", "settle": {"every": 2, "looks": 1, "tau": -0.999}},
    "random": {"mode": "afresh"},
    "size": {"mode": "while_training"},
    "switched_off": {"mode": "while_training"},
}


def search(out: Path, criterion: str, *, mode: str, norm_scale: bool = True, **settings: Any) -> amla.SearchResult:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (labels[:, None, None] * 60 + rng.integers(0, 80, (90, 8, 8))).astype(np.uint8)
    return amla.search(
        images,
        labels,
        out=out,
        store=f"sqlite:///{out / 'amla.db'}",
        mode=mode,
        criterion=criterion,
        iterations=1,
        search_steps=16,
        steps=3,
        batch_size=16,
        threads=1,
        precision="float32",
        settings=settings,
        space_settings={"width": 12, "layers": [2], "max_layers": [2], "style": {"norm_scale": norm_scale}},
    )


@pytest.mark.parametrize("criterion", CASES)
def test_a_criterion_prunes_by_what_was_measured(tmp_path: Path, criterion: str) -> None:
    case = CASES[criterion]
    found = search(tmp_path, criterion, **case)
    first, final = found.trials[:2]
    assert (final.spec.purpose, final.spec.parent) == ("final", 0 if case["mode"] == "while_training" else None)
    pruned = final.spec.memo["pruned"]
    network = first.spec.architecture
    assert isinstance(network, MacroArchitecture)
    names = [name for name, _ in branches_of(network)]
    assert isinstance(pruned, list)
    assert len(pruned) == len(names) // 3
    assert set(pruned) < set(names)
    scales = [name for name in load_file(tmp_path / "model.safetensors") if name.endswith("branch2/norm.weight")]
    assert bool(scales) == case.get("norm_scale", True)
    page = (tmp_path / "report.html").read_text()
    if criterion in ("random", "size") or "settle" in case:  # settled before half of its steps
        assert "agreement" not in final.spec.memo
        assert "Kendall" not in page
    else:
        assert -1.0 <= float(final.spec.memo["agreement"]) <= 1.0  # type: ignore[arg-type]
        assert "Kendall" in page
    assert first.result is not None
    assert (first.result.cost.steps < 16) == ("settle" in case)

"""What a trial asks of a trainer's procedure: the ``settings`` of a ``TrialSpec``, by its ``procedure``. Library-free."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from amla.spec.base import Document

#: Scores of a network at its initialisation; more is better. See ``trainers.torch.score`` for what each is.
Score = Literal["params", "flops", "naswot", "synflow", "swap", "expressivity", "progressivity", "trainability"]
SCORES: tuple[Score, ...] = get_args(Score)

#: Batches that a step of a procedure sends through the network, there and back, for one of a plain training.
PASSES: dict[str, float] = {"train": 1.0, "score": 0.0}


class ScoreSettings(Document):
    """Of ``score``: no step is taken; the scores come back in ``Result.scores``."""

    scores: tuple[Score, ...] = Field(SCORES, min_length=1)
    images: int = Field(64, ge=2, le=4096, description="training images that are looked at")
    seed: int = Field(0, ge=0, description="of the choice of images: the same for all networks that are compared")

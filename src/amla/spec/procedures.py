"""What a trial asks of a trainer's procedure: the ``settings`` of a ``TrialSpec``, by its ``procedure``. Library-free."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from amla.spec.base import Document

#: Scores of a network at its initialisation; more is better. See ``trainers.torch.score`` for what each is.
Score = Literal["params", "flops", "naswot", "synflow", "swap", "expressivity", "progressivity", "trainability"]
SCORES: tuple[Score, ...] = get_args(Score)

#: Batches that a step of a procedure sends through the network, there and back, for one of a plain training.
PASSES: dict[str, float] = {"train": 1.0, "score": 0.0, "darts": 2.0}
#: The statistic of a block by which ``darts`` and ``enas`` say how much of it is on, in [0, 1].
STRENGTH = "strength"


class ScoreSettings(Document):
    """Of ``score``: no step is taken; the scores come back in ``Result.scores``."""

    scores: tuple[Score, ...] = Field(SCORES, min_length=1)
    images: int = Field(64, ge=2, le=4096, description="training images that are looked at")
    seed: int = Field(0, ge=0, description="of the choice of images: the same for all networks that are compared")


class ArchitectureAdam(Document):
    """How ``darts`` learns the strengths of operations; the defaults are those of arXiv 1806.09055, appendix A.1."""

    architecture_rate: float = Field(3e-4, gt=0.0, description="learning rate of the strengths, Adam's")
    architecture_beta1: float = Field(0.5, ge=0.0, lt=1.0)
    architecture_beta2: float = Field(0.999, ge=0.0, lt=1.0)
    architecture_weight_decay: float = Field(1e-3, ge=0.0, description="L2, added to the gradient")
    architecture_share: float = Field(
        0.5, gt=0.0, lt=1.0, description="part of the training images by which the strengths are learnt, and no weights"
    )


class DartsSettings(ArchitectureAdam):
    """Of ``darts``: the strengths of all options come back as a statistic of their blocks. ``mixtures`` as in ``Supernet``."""

    mixtures: dict[str, dict[str, tuple[str, ...]]] = Field(min_length=1)

"""What a trial asks of a trainer's procedure: the ``settings`` of a ``TrialSpec``, by its ``procedure``. Library-free."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from amla.spec.base import Document
from amla.spec.experiment import Problem

#: Scores of a network at its initialisation; more is better. See ``trainers.torch.score`` for what each is.
Score = Literal["params", "flops", "naswot", "synflow", "swap", "expressivity", "progressivity", "trainability"]
SCORES: tuple[Score, ...] = get_args(Score)

#: Batches that a step of a procedure sends through the network, there and back, for one of a plain training.
PASSES: dict[str, float] = {"train": 1.0, "score": 0.0, "darts": 2.0, "enas": 1.0}
#: Procedures whose network is all of a space in one: no candidate itself, so nothing is measured of it.
WHOLE = frozenset({"darts", "enas"})
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


class ControllerSettings(Document):
    """How ``enas`` learns its controller (arXiv 1802.03268)."""

    controller: Literal["lstm", "factorised"] = Field("lstm", description="factorised: every decision by itself")
    hidden: int = Field(100, ge=1, le=4096, description="units of the LSTM")
    controller_rate: float = Field(3.5e-4, gt=0.0, description="learning rate of the controller, Adam's")
    controller_share: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="part of the training images by which networks are judged, and no weights learnt",
    )
    entropy_weight: float = Field(1e-4, ge=0.0, description="of the controller's entropy, added to the reward")
    baseline_decay: float = Field(0.99, ge=0.0, lt=1.0, description="of the moving average of rewards")
    temperature: float = Field(5.0, gt=0.0, description="logits are divided by it")
    tanh_constant: float = Field(2.5, gt=0.0, description="and then squashed to at most this")
    warmup: float = Field(0.25, ge=0.0, le=1.0, description="share of the budget before the controller learns")
    candidates: int = Field(10, ge=1, le=1000, description="networks drawn at last; the best of them is trained")


class EnasSettings(ControllerSettings):
    """Of ``enas``. ``problem`` names the space, whose supernet the trial's network is, and the limits."""

    problem: Problem

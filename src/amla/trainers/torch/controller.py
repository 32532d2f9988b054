"""Policies over the decisions of a search space: what ``enas`` samples networks from.

The LSTM takes the decisions one after the other, each from the hidden state, with what was chosen before as its input
(arXiv 1802.03268 section 2.2, figure 1). Decisions with the same options share embeddings and output weights. It is tiny
and stays on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from amla.spec.procedures import ControllerSettings

Decisions = Mapping[str, tuple[str, ...]]
#: Parameters begin uniform within +-.
SPREAD = 0.1


class Sample(NamedTuple):
    """Options taken, the log-probability of all of them together, and the sum of the entropies on the way (nats)."""

    taken: dict[str, str]
    log_probability: Tensor
    entropy: Tensor


class Policy(nn.Module):
    """Base of both: ``forward`` draws one sample with a generator."""

    def __init__(self, decisions: Decisions, settings: ControllerSettings) -> None:
        super().__init__()
        self.decisions, self.settings = dict(decisions), settings

    def reset(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -SPREAD, SPREAD, generator=generator)

    def logits(self, place: int, before: Tensor | None) -> Tensor:
        """Of the ``place``-th decision; ``before`` is the index that the one before it took."""
        raise NotImplementedError

    def begin(self) -> None:
        """Before the first decision."""

    def forward(self, generator: torch.Generator) -> Sample:
        taken: dict[str, str] = {}
        log_probability = entropy = torch.zeros(())
        before: Tensor | None = None
        self.begin()
        for place, (name, options) in enumerate(self.decisions.items()):
            raw = self.logits(place, before) / self.settings.temperature
            logs = (self.settings.tanh_constant * torch.tanh(raw)).log_softmax(0)
            before = torch.multinomial(logs.detach().exp(), 1, generator=generator)
            taken[name] = options[int(before)]
            log_probability = log_probability + logs[before[0]]
            entropy = entropy - (logs.exp() * logs).sum()
        return Sample(taken, log_probability, entropy)


class Factorised(Policy):
    """Every decision by itself: a vector of logits each."""

    def __init__(self, decisions: Decisions, settings: ControllerSettings) -> None:
        super().__init__(decisions, settings)
        self.own = nn.ParameterList(torch.zeros(len(options)) for options in self.decisions.values())

    def logits(self, place: int, before: Tensor | None) -> Tensor:
        del before
        found: Tensor = self.own[place]
        return found


class Recurrent(Policy):
    """The LSTM."""

    def __init__(self, decisions: Decisions, settings: ControllerSettings) -> None:
        super().__init__(decisions, settings)
        kinds = list(dict.fromkeys(self.decisions.values()))
        self.kind = [kinds.index(options) for options in self.decisions.values()]
        hidden = settings.hidden
        self.start = nn.Parameter(torch.zeros(1, hidden))
        self.cell = nn.LSTMCell(hidden, hidden)
        self.embeddings = nn.ParameterList(torch.zeros(len(options), hidden) for options in kinds)
        self.outputs = nn.ParameterList(torch.zeros(len(options), hidden) for options in kinds)
        self.state: tuple[Tensor, Tensor] | None = None

    def begin(self) -> None:
        self.state = None

    def logits(self, place: int, before: Tensor | None) -> Tensor:
        said = self.start if before is None else self.embeddings[self.kind[place - 1]][before]
        self.state = self.cell(said, self.state)
        found: Tensor = self.outputs[self.kind[place]] @ self.state[0][0]
        return found


def make_policy(decisions: Decisions, settings: ControllerSettings, seed: int) -> Policy:
    """The policy that the settings name, freshly initialised."""
    kind = Recurrent if settings.controller == "lstm" else Factorised
    policy = kind(decisions, settings)
    policy.reset(seed)
    return policy

"""The unpruned envelope as it is, trained to the end: the control that any construction must beat."""

from __future__ import annotations

from amla.searchers.base import SearcherSettings, envelope_space
from amla.searchers.unsearched import Unsearched
from amla.spec.architecture import Architecture


class Envelope(Unsearched[SearcherSettings]):
    """Nothing is searched: the space's initial network is the final one."""

    def network(self) -> Architecture:
        return envelope_space(self.problem, "envelope").initial()

"""Which trials are not worth ending? What earlier ones reported -> the one rule that Katib's collector can apply to the next.

A rule is fixed before its trial starts: "stop if, at the n-th report, the best accuracy so far is worse than this". The collector
knows one n for a metric and stops a trial only when all of its rules are met, so that several rungs cannot be told.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from amla.engine.options import with_settings
from amla.errors import AmlaError, ConfigError
from amla.services.katib.parameters import Texts
from amla.spec.base import Document


class Curve(NamedTuple):
    """The objective as a trial reported it, in order."""

    values: tuple[float, ...]
    whole: bool  # whether the trial ended by itself


class Rule(NamedTuple):
    """A trial that has not reached ``value`` by its report number ``start_step`` stops."""

    value: float
    start_step: int


class MedianStop(Document):
    """Stop a trial whose best is worse than the median of the others' running averages (Golovin et al. 2017, Vizier)."""

    min_trials_required: int = Field(3, ge=1, description="whole trials that there must be before any is stopped")
    # What must not be stopped reports once.
    start_step: int = Field(4, ge=2, description="report at which a trial is judged")

    def rule(self, curves: Sequence[Curve], maximize: bool) -> Rule | None:
        del maximize  # a median has no direction
        step = self.start_step
        averages = [statistics.fmean(c.values[:step]) for c in curves if c.whole and len(c.values) >= step]
        if len(averages) < self.min_trials_required:
            return None
        return Rule(statistics.median(averages), step)


class SuccessiveHalving(Document):
    """Keep the best of every ``eta`` trials that came as far (Li et al. 2018, ASHA). A trial is judged at one rung: trials take
    turns at the reports ``start_step``, ``start_step * eta``, ..."""

    eta: int = Field(3, ge=2, description="one of so many goes on")
    start_step: int = Field(2, ge=2, description="report that is the first rung")
    rungs: int = Field(1, ge=1, le=10, description="how many rungs there are")

    def rule(self, curves: Sequence[Curve], maximize: bool) -> Rule | None:
        step = self.start_step * self.eta ** (len(curves) % self.rungs)
        best = max if maximize else min
        reached = sorted((best(c.values[:step]) for c in curves if len(c.values) >= step), reverse=maximize)
        kept = len(reached) // self.eta
        return Rule(reached[kept - 1], step) if kept else None


Stopping = MedianStop | SuccessiveHalving
#: Katib has a ``medianstop`` of its own.
ALGORITHMS: dict[str, type[MedianStop] | type[SuccessiveHalving]] = {
    "amla-medianstop": MedianStop,
    "successive-halving": SuccessiveHalving,
}


def stopping_of(early_stopping: Any) -> Stopping:
    """The algorithm that a message ``EarlyStoppingSpec`` asks for. Errors: ``ConfigError`` that names the setting."""
    name = early_stopping.algorithm_name
    if name not in ALGORITHMS:
        raise ConfigError(f"earlyStopping: no algorithm is called {name!r}; there are {', '.join(ALGORITHMS)}")
    return _parsed(name, {setting.name: setting.value for setting in early_stopping.algorithm_settings})


def _parsed(name: str, said: Texts) -> Stopping:
    kind = ALGORITHMS[name]
    unknown = next((key for key in said if key not in kind.model_fields), None)
    if unknown is not None:
        raise ConfigError(f"{unknown}: {name} has no such setting; it has {', '.join(kind.model_fields)}")
    try:
        return kind.parse(with_settings({}, [f"{key}={text}" for key, text in said.items()]))
    except AmlaError as error:
        raise ConfigError(str(error).removeprefix(f"{kind.__name__}: ")) from None


def asked(words: str) -> dict[str, Any]:
    """``NAME,KEY=VALUE,...`` -> an Experiment's ``earlyStopping``. Errors: ``ConfigError``."""
    name, *pairs = words.split(",")
    if name not in ALGORITHMS:
        raise ConfigError(f"--early-stopping: no algorithm is called {name!r}; there are {', '.join(ALGORITHMS)}")
    said = dict(_pair(pair) for pair in pairs)
    _parsed(name, said)
    return {"algorithmName": name, **_settings(said.items())}


def _settings(said: Iterable[tuple[str, str]]) -> dict[str, Any]:
    listed = [{"name": name, "value": value} for name, value in said]
    return {"algorithmSettings": listed} if listed else {}


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"--early-stopping: {text!r} is no KEY=VALUE")
    return name.strip(), value.strip()

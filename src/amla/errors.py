"""The one exception tree of AMLA.

::

    AmlaError                 a message for a person, in one line; the CLI exits with 2
    |-- SpecError             a document is wrong: an unknown key, an impossible width, a name nobody has
    |-- ConfigError           an experiment file or an option is wrong
    |-- DataError             a dataset is missing, corrupt or unusable
    |-- PluginError           no plug-in of that name, or its library is not installed
    |-- StoreError            the store cannot be used: another version, read-only, unreachable
    |-- ExportError           a network cannot leave in the form that was asked for
    `-- SearchError           a search cannot go on: nothing to suggest, a result that lacks what it reads (exit code 1)
    TrialFailure              a training that ended badly (NaN, out of memory, bad data); ends a trial, never a search

An error that a user can mend is an ``AmlaError``; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class AmlaError(Exception):
    """A message for a person: one line that says what is wrong and what to do. Exit code 2."""

    exit_code = 2


class SpecError(AmlaError):
    """A document does not mean anything: the message names the key and what it may hold."""


class ConfigError(AmlaError):
    """An experiment file or an option is wrong: the message names it."""


class DataError(AmlaError):
    """A dataset is missing, corrupt or unusable."""


class PluginError(AmlaError):
    """No plug-in has that name, or the library that it needs is not installed."""


class StoreError(AmlaError):
    """The store cannot be used: made by another version, read-only, or unreachable."""


class ExportError(AmlaError):
    """A network cannot leave in the form that was asked for."""


class SearchError(AmlaError):
    """A search cannot go on. Exit code 1: the input was good, the run failed."""

    exit_code = 1


class TrialFailure(Exception):
    """A training that ended badly. The trial is stored as failed with this reason; the search goes on.

    ``kind`` is one of ``nan``, ``out_of_memory``, ``data``, ``cancelled``, ``crashed``.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason

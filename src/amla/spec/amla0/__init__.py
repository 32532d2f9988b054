"""The reader of AMLA 0.x files: task files become experiments, ``system.json`` is explained.

What a file asks for and cannot be had is a ``SpecError`` that names the key; what has no effect is a warning.
"""

from __future__ import annotations

from amla.spec.amla0.system import system_report
from amla.spec.amla0.task import convert, recognise

__all__ = ["convert", "recognise", "system_report"]

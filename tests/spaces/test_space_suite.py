"""Every space that ships passes the suite."""

from __future__ import annotations

from amla.testing.spaces import SpaceSuite


class TestEnvelope(SpaceSuite):
    name = "envelope"
    settings = {"width": 6, "layers": [1, 2], "max_layers": [2, 2]}
    small = {"width": 4, "layers": [1, 1], "max_layers": [2, 1], "operations": ["1x1", "3x3"]}


class TestEnvelopeWithoutSkips(SpaceSuite):
    name = "envelope"
    settings = {"width": 8, "layers": [2], "operations": ["1x1", "3x3", "3x3sep"], "skips": False}
    small = {"width": 4, "layers": [2], "max_layers": [3], "operations": ["1x1", "3x3"], "skips": False}


class TestEnvelopeOfBlocks(SpaceSuite):
    name = "envelope"
    settings = {"width": 8, "layers": [2, 2], "blocks": [3, 4], "operations": ["1x1", "3x3", "3x3sep"]}
    small = {"width": 8, "layers": [2, 1], "blocks": [3, 1], "operations": ["1x1", "3x3"]}


class TestNASBench201(SpaceSuite):
    name = "nasbench201"
    settings = {"width": 4, "cells": 1}
    small = {"width": 4, "cells": 1, "operations": ["zero", "3x3", "identity"]}


class TestDartsCell(SpaceSuite):
    name = "darts_cell"
    settings = {"width": 4, "cells": 3}
    small = {"width": 4, "cells": 3, "nodes": 3, "operations": ["3x3sep"]}

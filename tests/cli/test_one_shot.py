"""``zero_cost``, ``darts`` and ``enas`` from the command line, to a tested network; and a trainer that lacks them."""

import json
from collections.abc import Callable

import pytest
from typed import PINNED, Amla

TINY = ("digits", "--steps", "8", "--search-steps", "4", "--width", "4", "--limit", "300", *PINNED)


@pytest.mark.parametrize(
    ("searcher", "trials", "procedures"),
    [("zero_cost", ("--trials", "4"), 9), ("darts", (), 3), ("enas", (), 3)],
)
def test_a_whole_search(amla: Amla, searcher: str, trials: tuple[str, ...], procedures: int) -> None:
    asked = ("--searcher", searcher, "--space", "nasbench201", "--store", "sqlite:///amla.db", "--out", "run", *trials)
    found = json.loads(amla("search", *TINY, *asked, "--json").stdout)
    assert found["state"] == "done"
    assert found["trials"] == procedures
    assert 0.0 <= found["test"]["accuracy"] <= 1.0
    assert found["seconds"]["search"] > 0.0
    assert (found["seconds"]["selection"] > 0.0) == (searcher == "zero_cost")


def test_a_trainer_without_the_procedure_is_refused_and_one_that_has_it_named(complaint: Callable[..., str]) -> None:
    asked = ("--searcher", "darts", "--trainer", "amla.testing.tiny:TinyTrainer", "--store", "sqlite:///amla.db")
    said = complaint("search", "digits", *asked)
    assert "'amla.testing.tiny:TinyTrainer' has no darts, which the searcher 'darts' needs; 'torch' has" in said

"""One thread: these networks are tiny, and threads that wait for each other on a busy machine take ten times as long.

And which tests of a suite are slow for a library that compiles every network anew.
"""

from collections.abc import Iterator

import pytest
import torch

#: Tests of ``TestKerasTrainer`` whose networks take XLA the longest; they are part of ``make test-all``.
COMPILES = (
    "test_a_child_goes_on_from_its_parent[weights]",
    "test_a_grown_layer_changes_nothing_at_first",
    "test_every_operation_is_built_as_it_is_counted",
    "test_every_way_to_train[change11]",
    "test_every_way_to_train[change13]",
    "test_every_way_to_train[change14]",
    "test_measuring_keeps_what_was_measured",
    "test_resumed_is_as_good_as_uninterrupted[3-",
    "test_resumed_is_as_good_as_uninterrupted[4-",
    "test_the_whole_state_passes_through_surgery",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "TestKerasTrainer" in item.nodeid and item.name.startswith(COMPILES):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

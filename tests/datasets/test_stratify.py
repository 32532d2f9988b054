from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amla.datasets.stratify import allot, cut, subset

PINNED = {"test": [4, 12, 14], "valid": [3, 17, 22, 23, 24, 28]}

labels_of = st.lists(st.integers(1, 60), min_size=2, max_size=8).flatmap(
    lambda counts: st.permutations(list(np.repeat(np.arange(len(counts)), counts))).map(np.array)
)


@given(labels_of, st.floats(0.05, 0.45), st.floats(0.05, 0.45), st.integers(0, 2**32))
def test_a_cut_is_a_partition_that_leaves_each_class_in_train(labels, test, valid, seed):
    rows = cut(labels, {"test": test, "valid": valid}, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(labels)))
    assert set(labels[rows["train"]]) == set(labels)
    for own in rows.values():
        assert (np.diff(own) > 0).all()
    again = cut(labels, {"test": test, "valid": valid}, seed)
    assert all((rows[split] == again[split]).all() for split in rows)


@given(labels_of, st.integers(8, 500), st.integers(0, 9))
def test_a_subset_has_its_size_and_every_class(labels, limit, seed):
    rows = subset(labels, limit, seed)
    assert len(rows) == len(set(rows)) == min(limit, len(labels))
    assert set(labels[rows]) == set(labels)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.floats(0, 1))
def test_shares_are_within_one_of_exact(counts, fraction):
    counts = np.array(counts)
    total = round(fraction * counts.sum())
    given_out = allot(counts, total, counts)
    assert given_out.sum() == total
    assert (np.abs(given_out - counts * (total / max(counts.sum(), 1))) <= 1).all()


def test_the_split_of_a_spec_is_pinned():
    """A change here changes everybody's splits, and so makes stored experiments incomparable."""
    rows = cut(np.arange(30) % 3, {"test": 0.1, "valid": 0.2}, seed=7)
    assert rows["test"].tolist() == PINNED["test"]
    assert rows["valid"].tolist() == PINNED["valid"]


def test_nothing_can_be_cut_off_single_images():
    rows = cut(np.arange(4), {"valid": 0.5}, seed=0)
    assert len(rows["valid"]) == 0
    assert len(rows["train"]) == 4


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_balanced_classes_give_balanced_splits(fraction):
    rows = cut(np.repeat(np.arange(10), 100), {"valid": fraction}, seed=3)
    counts = np.bincount(np.repeat(np.arange(10), 100)[rows["valid"]])
    assert (counts == round(100 * fraction)).all()

"""``DatasetSuite``: what every dataset must do. Subclass it, give it your class and a spec, run pytest.

::

    class TestStones(DatasetSuite):
        dataset = Stones

        def spec(self, tmp_path):
            write_a_few_images(tmp_path)          # the same ones every time
            return DatasetSpec(name=f"stones:{tmp_path}")
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from amla.datasets.base import Dataset, Images, Labels
from amla.errors import DataError
from amla.spec.data import SPLITS, DatasetInfo, DatasetSpec, Split

#: Odd, so that the last batch is a smaller one.
BATCH = 7

Everything = dict[Split, tuple[Images, Labels]]


def read(dataset: Dataset, split: Split) -> tuple[Images, Labels]:
    """All of a split, whether the dataset is streamed or not."""
    if not dataset.streamed:
        return dataset.arrays(split)
    batches = list(dataset.batches(split, 64))
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def fingerprints(images: Images, labels: Labels) -> Counter[tuple[int, bytes]]:
    """How often each labelled image occurs."""
    return Counter((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))


class DatasetSuite:
    """Override ``dataset`` and ``spec``. Keep the data small (some dozens of images): every test opens it afresh.

    ``cut`` says which splits are cut off the training split by the spec's seed; those that the source brings are not.
    """

    dataset: ClassVar[type[Dataset]]
    cut: ClassVar[frozenset[Split]] = frozenset({"valid", "test"})

    def spec(self, tmp_path: Path) -> DatasetSpec:
        """The dataset to test, made of files under ``tmp_path`` if it needs any: the same on every call."""
        raise NotImplementedError

    def open(self, tmp_path: Path, **changes: object) -> Dataset:
        return self.dataset(self.spec(tmp_path).model_copy(update=changes))

    def everything(self, dataset: Dataset) -> Everything:
        return {split: read(dataset, split) for split in SPLITS}

    def test_info_is_a_document(self, tmp_path: Path) -> None:
        info = self.open(tmp_path).info
        assert DatasetInfo.from_json(info.to_json()) == info
        assert info.num_classes >= 2
        assert len(set(info.classes)) == info.num_classes
        assert set(info.sizes) == set(SPLITS)

    def test_images_are_as_info_says(self, tmp_path: Path) -> None:
        dataset = self.open(tmp_path)
        info = dataset.info
        for split, (images, labels) in self.everything(dataset).items():
            assert images.shape == (info.sizes[split], *info.shape), split
            assert images.dtype == np.dtype(info.dtype), split
            assert labels.shape == (info.sizes[split],), split
            assert labels.dtype == np.int64, split
            assert len(labels) > 0, split
            assert labels.min() >= 0, split
            assert labels.max() < info.num_classes, split

    def test_every_class_is_in_train(self, tmp_path: Path) -> None:
        dataset = self.open(tmp_path)
        assert set(read(dataset, "train")[1].tolist()) == set(range(dataset.info.num_classes))

    def test_mean_and_deviation_are_those_of_train(self, tmp_path: Path) -> None:
        dataset = self.open(tmp_path)
        info = dataset.info
        images = read(dataset, "train")[0].astype(np.float64) / (255.0 if info.dtype == "uint8" else 1.0)
        deviation = images.std((0, 1, 2))
        np.testing.assert_allclose(info.mean, images.mean((0, 1, 2)), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(info.std, np.where(deviation > 1e-6, deviation, 1.0), rtol=1e-6)

    def test_same_spec_same_pixels(self, tmp_path: Path) -> None:
        first, second = self.open(tmp_path), self.open(tmp_path)
        assert first.info == second.info
        for split in SPLITS:
            for one, other in zip(read(first, split), read(second, split), strict=True):
                np.testing.assert_array_equal(one, other)

    def test_another_seed_cuts_elsewhere_and_loses_nothing(self, tmp_path: Path) -> None:
        """The splits share the same images out whatever the seed, so none is in two of them, and none is lost."""
        one = self.everything(self.open(tmp_path, seed=1))
        other = self.everything(self.open(tmp_path, seed=2))
        cut = [fingerprints(*one[split]) != fingerprints(*other[split]) for split in self.cut]
        assert all(cut), "the same split for another seed"
        for split in set(SPLITS) - self.cut - {"train"}:
            assert fingerprints(*one[split]) == fingerprints(*other[split]), "a given split depends on the seed"
        total = [sum((fingerprints(*pair) for pair in splits.values()), Counter()) for splits in (one, other)]
        assert total[0] == total[1]

    def test_cuts_are_stratified(self, tmp_path: Path) -> None:
        dataset = self.open(tmp_path)
        classes = dataset.info.num_classes
        counts = {
            split: np.bincount(labels, minlength=classes) for split, (_, labels) in self.everything(dataset).items()
        }
        whole = counts["train"] + sum(counts[split] for split in self.cut)
        for split in self.cut:
            wanted = whole * (counts[split].sum() / whole.sum())
            assert (np.abs(counts[split] - wanted) <= 1.0 + 1e-9).all(), f"{split}: {counts[split]}, wanted {wanted}"

    def test_limit_takes_a_stratified_part_of_each_split(self, tmp_path: Path) -> None:
        whole = self.open(tmp_path)
        limit = max(whole.info.num_classes, whole.info.sizes["train"] // 2)
        dataset = self.open(tmp_path, limit=limit)
        assert dataset.info.sizes == {split: min(size, limit) for split, size in whole.info.sizes.items()}
        for split in SPLITS:
            images, labels = read(dataset, split)
            all_images, all_labels = read(whole, split)
            assert set(labels.tolist()) == set(all_labels.tolist())
            assert fingerprints(images, labels) <= fingerprints(all_images, all_labels)

    def test_a_limit_below_the_classes_is_an_error_in_one_line(self, tmp_path: Path) -> None:
        message = None
        try:
            self.open(tmp_path, limit=1).info  # noqa: B018
        except DataError as error:
            message = str(error)
        assert message, "a limit of one image passes"
        assert "\n" not in message

    def test_batches_without_a_seed_are_the_split_in_order(self, tmp_path: Path) -> None:
        dataset = self.open(tmp_path)
        for split in SPLITS:
            images, labels = read(dataset, split)
            batches = list(dataset.batches(split, BATCH))
            assert [len(batch) for batch, _ in batches[:-1]] == [BATCH] * (len(batches) - 1)
            np.testing.assert_array_equal(np.concatenate([batch for batch, _ in batches]), images)
            np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), labels)

    def test_batches_with_a_seed_are_shuffled_by_it(self, tmp_path: Path) -> None:
        dataset = self.open(tmp_path)
        passes = [list(dataset.batches("train", BATCH, seed=seed)) for seed in (5, 5, 6)]
        images, labels = ([np.concatenate([batch[side] for batch in one]) for one in passes] for side in (0, 1))
        np.testing.assert_array_equal(images[0], images[1])
        np.testing.assert_array_equal(labels[0], labels[1])
        assert images[0].tobytes() != images[2].tobytes(), "another seed, the same order"
        expected = fingerprints(*read(dataset, "train"))
        assert fingerprints(images[0], labels[0]) == expected
        assert fingerprints(images[2], labels[2]) == expected

    def test_a_pass_may_be_left_early(self, tmp_path: Path) -> None:
        dataset = self.open(tmp_path)
        batches = dataset.batches("train", 2, seed=0)
        first = next(batches)[0]
        del batches
        np.testing.assert_array_equal(next(dataset.batches("train", 2, seed=0))[0], first)

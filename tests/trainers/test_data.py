"""Batches: augmentation, order, streams."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from amla import datasets
from amla.datasets.base import Dataset, Images, Labels
from amla.errors import DataError
from amla.spec.data import DatasetInfo, DatasetSpec, Split
from amla.spec.training import Augmentation
from amla.trainers.chance import draw
from amla.trainers.torch.data import Batches, Normalise, augment, to_tensor


def test_augmentation_moves_whole_images() -> None:
    x = torch.arange(2 * 3 * 6 * 5, dtype=torch.float32).reshape(2, 3, 6, 5)

    def augmented(x: torch.Tensor, how: Augmentation) -> torch.Tensor:
        return augment(x, how, draw(how, 2, (6, 5), 0, 0, 0))

    flipped = augmented(x, Augmentation(flip=True))
    assert all(torch.equal(one, two) or torch.equal(one, two.flip(2)) for one, two in zip(flipped, x, strict=True))
    cropped = augmented(x, Augmentation(pad_crop=2))
    padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
    for number in range(2):
        places = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if torch.equal(padded[number, :, r : r + 6, c : c + 5], cropped[number])
        ]
        assert places
    blanked = augmented(x + 1, Augmentation(cutout=3))
    assert ((blanked == 0).sum((1, 2, 3)) <= 27).all()
    assert (blanked == 0).any()


CPU = torch.device("cpu")
DIGITS = DatasetSpec(name="digits", limit=100)


class Streamed(Dataset):
    """Digits, one pass at a time."""

    streamed = True
    lacking = 0

    def __init__(self, spec: DatasetSpec) -> None:
        super().__init__(spec)
        self.whole = datasets.load(spec)

    @property
    def info(self) -> DatasetInfo:
        return self.whole.info

    def arrays(self, split: Split) -> tuple[Images, Labels]:
        raise AssertionError("a stream has no arrays")

    def batches(self, split: Split, size: int, *, seed: int | None = None) -> Iterator[tuple[Images, Labels]]:
        found = list(self.whole.batches(split, size, seed=seed))
        yield from found[: len(found) - self.lacking]


@pytest.mark.parametrize("kind", [datasets.load, Streamed])
def test_batches_are_the_same_from_any_step_on(kind: type[Dataset]) -> None:
    batches = Batches(kind(DIGITS), 32, Augmentation(pad_crop=1, cutout=2), 7, CPU)
    assert batches.per_epoch == 3
    stream = batches(0)
    whole = [next(stream) for _ in range(7)]
    for first in (1, 3, 5):
        again = next(batches(first))
        assert torch.equal(again[0], whole[first][0])
        assert torch.equal(again[1], whole[first][1])
    assert not torch.equal(whole[0][1], whole[3][1])
    assert whole[0][0].is_contiguous(memory_format=torch.channels_last)


def test_a_pass_shows_every_image_at_most_once() -> None:
    data = datasets.load(DIGITS)
    batches = Batches(data, 33, Augmentation(), 7, CPU)
    stream = batches(0)
    seen = torch.cat([next(stream)[0] for _ in range(3)]).flatten(1)
    assert len(seen.unique(dim=0)) == len(torch.from_numpy(data.arrays("train")[0]).flatten(1).unique(dim=0)) - 1


def test_a_set_smaller_than_a_batch_is_the_batch() -> None:
    batches = Batches(datasets.load(DIGITS), 1000, Augmentation(), 7, CPU)
    assert batches.per_epoch == 1
    assert len(next(batches(0))[1]) == 100


def test_a_stream_that_ends_early_is_an_error() -> None:
    data = Streamed(DIGITS)
    data.lacking = 2
    stream = Batches(data, 32, Augmentation(), 7, CPU)(0)
    next(stream)
    next(stream)
    with pytest.raises(DataError, match="ends after 2 batches of 32"):
        next(stream)


def test_pixels_are_normalised_by_the_training_split() -> None:
    data = datasets.load(DIGITS)
    images = data.arrays("train")[0]
    x = Normalise(data.info, CPU)(to_tensor(images, CPU))
    assert x.shape == (100, 1, 8, 8)
    assert x.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert x.std(correction=0).item() == pytest.approx(1.0, abs=1e-3)
    expected = (images[3, 4, 5, 0] / 255 - data.info.mean[0]) / data.info.std[0]
    assert x[3, 0, 4, 5].item() == pytest.approx(expected, abs=1e-5)
    floats = data.info.model_copy(update={"dtype": "float32"})
    assert torch.allclose(Normalise(floats, CPU)(to_tensor((images / 255).astype(np.float32), CPU)), x, atol=1e-5)

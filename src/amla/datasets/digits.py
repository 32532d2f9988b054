"""``digits``: 1,797 handwritten digits of 8x8 grey pixels, out of scikit-learn. Nothing to download."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from amla.datasets.memory import InMemoryDataset, Raw


class Digits(InMemoryDataset):
    """Images (n, 8, 8, 1) uint8; scikit-learn's 0..16 brought to 0..255. No split of its own."""

    def load(self) -> Raw:
        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
        return Raw((images, bunch.target), [str(name) for name in bunch.target_names], flip=False)

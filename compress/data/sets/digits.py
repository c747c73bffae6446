"""Handwritten digits that come with scikit-learn: 1,797 images of 8×8, ten classes. The one set that needs no files.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998 (its test part).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.data.partition import by_content, stratified
from compress.data.sources import Part, RawData, datasets

TEST_SHARE = 0.2


@datasets.register("digits")
def digits(_: Sequence[Path]) -> RawData:
    """Returns the digits, 0…16 spread over 0…255; a fixed fifth of each class is for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # [1797, 1, 8, 8]
    labels = bunch.target.astype(np.int64)
    train, test = stratified(labels, TEST_SHARE, by_content(images))
    # Of all pixels, rounded.
    return RawData(
        Part(images[train], labels[train]), Part(images[test], labels[test]), classes=10, mean=(0.305,), std=(0.376,)
    )

"""STL-10 in its official binary layout: 96×96 RGB, 5,000 labelled training and 8,000 test images, ten classes.

An image is its red, green and blue planes, each column by column; labels run from 1 to 10. The unlabelled images are
not used.

Source: A. Coates, H. Lee, A. Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", 2011;
https://cs.stanford.edu/~acoates/stl10/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.sources import Part, RawData, check_labels, datasets, find_set, read_exact

_SIDE = 96
_CLASSES = 10


@dataclass(frozen=True)
class Stl10:
    """How many images the training and the test files hold."""

    train_images: int = 5_000
    test_images: int = 8_000


@datasets.register("stl-10")
def stl_10(roots: Sequence[Path]) -> RawData:
    """Returns the labelled part of STL-10."""
    return read_stl10(Stl10(), roots)


def read_stl10(layout: Stl10, roots: Sequence[Path]) -> RawData:
    """Finds and reads the four files.

    Raises:
        DataError: if a file is missing, has the wrong size, or a label that does not exist.
    """
    files = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
    folders = ("stl-10", "stl10_binary", "stl-10/stl10_binary")
    origin = "stl10_binary.tar.gz, https://cs.stanford.edu/~acoates/stl10/"
    place = find_set("stl-10", folders, files, roots, origin=origin)
    return RawData(
        _read(place, "train", layout.train_images),
        _read(place, "test", layout.test_images),
        classes=_CLASSES,
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2713),
    )


def _read(place: Path, part: str, count: int) -> Part:
    planes = read_exact(place / f"{part}_X.bin", count * 3 * _SIDE * _SIDE).reshape(count, 3, _SIDE, _SIDE)
    labels = read_exact(place / f"{part}_y.bin", count).astype(np.int64) - 1
    check_labels(place / f"{part}_y.bin", labels, _CLASSES)
    return Part(np.ascontiguousarray(planes.transpose(0, 1, 3, 2)), labels)  # [N, C, W, H] → [N, C, H, W]

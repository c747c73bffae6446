"""CIFAR-10 and CIFAR-100 in their official binary layout: 32×32 RGB, 50,000 training and 10,000 test images.

A record is one label byte (CIFAR-100: coarse, then fine) and 3,072 pixels: the red, green and blue planes, row by row.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.sources import Part, RawData, check_labels, datasets, find_set, read_exact

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar:
    """One of the two layouts.

    Args:
        name: of the data set.
        folders: names it goes by.
        train_files: in order.
        test_files: in order.
        file_images: images in each training and in each test file.
        label_classes: number of classes that each label byte tells; the last byte is the label.
        mean: [3], of the training images.
        std: [3], of the training images.
        archive: what the files are unpacked from.
    """

    name: str
    folders: tuple[str, ...]
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    file_images: tuple[int, int]
    label_classes: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    archive: str


CIFAR_10 = Cifar(
    name="cifar-10",
    folders=("cifar-10", "cifar-10-batches-bin", "cifar-10/cifar-10-batches-bin"),
    train_files=tuple(f"data_batch_{index}.bin" for index in range(1, 6)),
    test_files=("test_batch.bin",),
    file_images=(10_000, 10_000),
    label_classes=(10,),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    archive="cifar-10-binary.tar.gz",
)

CIFAR_100 = Cifar(
    name="cifar-100",
    folders=("cifar-100", "cifar-100-binary", "cifar-100/cifar-100-binary"),
    train_files=("train.bin",),
    test_files=("test.bin",),
    file_images=(50_000, 10_000),
    label_classes=(20, 100),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    archive="cifar-100-binary.tar.gz",
)


@datasets.register("cifar-10")
def cifar_10(roots: Sequence[Path]) -> RawData:
    """Returns CIFAR-10."""
    return read_cifar(CIFAR_10, roots)


@datasets.register("cifar-100")
def cifar_100(roots: Sequence[Path]) -> RawData:
    """Returns CIFAR-100 with its hundred fine labels."""
    return read_cifar(CIFAR_100, roots)


def read_cifar(layout: Cifar, roots: Sequence[Path]) -> RawData:
    """Finds and reads the files of `layout`.

    Raises:
        DataError: if a file is missing, has the wrong size, or a label that does not exist.
    """
    files = (*layout.train_files, *layout.test_files)
    origin = f"{layout.archive}, https://www.cs.toronto.edu/~kriz/cifar.html"
    place = find_set(layout.name, layout.folders, files, roots, origin=origin)
    return RawData(
        _read(layout, [place / file for file in layout.train_files], layout.file_images[0]),
        _read(layout, [place / file for file in layout.test_files], layout.file_images[1]),
        classes=layout.label_classes[-1],
        mean=layout.mean,
        std=layout.std,
    )


def _read(layout: Cifar, paths: Sequence[Path], file_images: int) -> Part:
    label_bytes = len(layout.label_classes)
    images = np.empty((len(paths) * file_images, *_SHAPE), np.uint8)
    labels = np.empty(len(images), np.int64)
    for index, path in enumerate(paths):
        records = read_exact(path, file_images * (label_bytes + _PIXELS)).reshape(file_images, -1)
        for byte, classes in enumerate(layout.label_classes):
            check_labels(path, records[:, byte], classes)
        here = slice(index * file_images, (index + 1) * file_images)
        labels[here] = records[:, label_bytes - 1]
        images[here] = records[:, label_bytes:].reshape(-1, *_SHAPE)
    return Part(images, labels)

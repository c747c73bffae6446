"""Tiny ImageNet in its official folder: 64×64 RGB JPEG, 200 classes, 500 training and 50 labelled test images each.

The official test images have no labels, so the official validation images are the test split, as is usual. Labels
follow the sorted WordNet ids, the order of loaders that sort class folders.

Source: Y. Le, X. Yang, "Tiny ImageNet Visual Recognition Challenge", 2015; http://cs231n.stanford.edu/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.images import read_images
from compress.data.sources import Part, RawData, datasets, find_set
from compress.errors import DataError

_NAME = "tiny-imagenet-200"
_ARCHIVE = "tiny-imagenet-200.zip, http://cs231n.stanford.edu/tiny-imagenet-200.zip"


@dataclass(frozen=True)
class TinyImagenet:
    """Extents of the set: classes, training images of each class, annotated images, side in pixels."""

    classes: int = 200
    class_images: int = 500
    test_images: int = 10_000
    side: int = 64


@datasets.register(_NAME)
def tiny_imagenet_200(roots: Sequence[Path]) -> RawData:
    """Returns Tiny ImageNet."""
    return read_tiny_imagenet(TinyImagenet(), roots)


def read_tiny_imagenet(layout: TinyImagenet, roots: Sequence[Path]) -> RawData:
    """Finds and decodes the images.

    Raises:
        DataError: if a file, a class or an image is missing, unreadable or of another size.
    """
    files = ("wnids.txt", "train", "val/val_annotations.txt")
    place = find_set(_NAME, (_NAME, f"{_NAME}/{_NAME}"), files, roots, origin=_ARCHIVE)
    wnids = sorted(_lines(place / "wnids.txt"))
    if len(set(wnids)) != layout.classes:
        raise _wrong_count(place / "wnids.txt", len(set(wnids)), layout.classes, "WordNet ids")
    paths: list[Path] = []
    for wnid in wnids:
        folder = place / "train" / wnid / "images"
        found = sorted(folder.glob("*.JPEG"))
        if len(found) != layout.class_images:
            raise _wrong_count(folder, len(found), layout.class_images, "images (*.JPEG)")
        paths += found
    labels = np.repeat(np.arange(layout.classes, dtype=np.int64), layout.class_images)
    test_paths, test_labels = _annotations(place / "val", wnids, layout.test_images)
    shape = (layout.side, layout.side)
    return RawData(
        Part(read_images(paths, shape=shape), labels),
        Part(read_images(test_paths, shape=shape), test_labels),
        classes=layout.classes,
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
    )


def _annotations(
    folder: Path, wnids: list[str], count: int
) -> tuple[list[Path], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Reads lines of image name, WordNet id and a box, split by tabs."""
    path = folder / "val_annotations.txt"
    number = {wnid: label for label, wnid in enumerate(wnids)}
    paths: list[Path] = []
    labels: list[int] = []
    for index, line in enumerate(_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in number:
            allowed = "image, tab, an id of wnids.txt, tab, box"
            raise DataError(f"{path}:{index}: not an annotation", got=line[:80], allowed=allowed)
        paths.append(folder / "images" / fields[0])
        labels.append(number[fields[1]])
    if len(paths) != count:
        raise _wrong_count(path, len(paths), count, "lines")
    return paths, np.asarray(labels, np.int64)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})", next_step=f"unpack it again from {_ARCHIVE}") from error


def _wrong_count(path: Path, got: int, expected: int, what: str) -> DataError:
    return DataError(
        f"{path}: wrong number of {what}", got=got, allowed=expected, next_step=f"unpack it again from {_ARCHIVE}"
    )

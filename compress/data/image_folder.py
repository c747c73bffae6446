"""A folder of images: one folder a class, either directly or below train/, [val/] and test/."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.data.images import SUFFIXES, read_images
from compress.data.partition import by_content, stratified
from compress.data.sources import Part, RawData
from compress.errors import DataError

TEST_SHARE = 0.2
_VALIDATION_NAMES = ("val", "valid", "validation")


def read_folder(folder: Path, image_size: int | None) -> RawData:
    """Reads every image; classes are numbered in the order of their folders' sorted names.

    Without train/ and test/, a fixed fifth of each class, chosen by its pixels alone, becomes the test split.

    Args:
        folder: holds class folders, or train/, test/ and perhaps val/.
        image_size: side in pixels that all images are resized to; needed where sizes differ.

    Raises:
        DataError: for fewer than two classes, an empty or missing class folder, a missing train/ or test/, or an
            unreadable image.
    """
    if not _subfolders(folder / "train"):  # a class may itself be called "train"
        parts_there = [name for name in ("test", *_VALIDATION_NAMES) if _subfolders(folder / name)]
        if parts_there:
            raise DataError(f"{folder} has {parts_there[0]}/ but no train/ with class folders", next_step="add it")
        classes = _classes(folder)
        everything = _read(folder, classes, image_size)
        kept, held = stratified(everything.labels, TEST_SHARE, by_content(everything.images))
        if not held.size:
            next_step = "add images, or give train/ and test/ folders"
            raise DataError(f"{folder}: too few images to hold out a test split", got=len(kept), next_step=next_step)
        train = Part(everything.images[kept], everything.labels[kept])
        test = Part(everything.images[held], everything.labels[held])
        return RawData(train, test, classes=len(classes))
    if not (folder / "test").is_dir():
        next_step = "move a share of the images there: accuracy is reported on it"
        raise DataError(f"{folder} has train/ but no test/", next_step=next_step)
    classes = _classes(folder / "train")
    validation = next((folder / name for name in _VALIDATION_NAMES if (folder / name).is_dir()), None)
    parts = [_read(part, classes, image_size) for part in (folder / "train", folder / "test", validation) if part]
    return RawData(parts[0], parts[1], classes=len(classes), validation=parts[2] if validation else None)


def _classes(folder: Path) -> list[str]:
    names = _subfolders(folder)
    if len(names) < 2:
        raise DataError(
            f"{folder}: fewer than two class folders",
            got=", ".join(names) or "none",
            next_step="make one folder a class, named after it, with its images inside",
        )
    return names


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    # Hidden folders and __MACOSX are what archivers and desktops leave behind.
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def _read(folder: Path, classes: list[str], image_size: int | None) -> Part:
    extra = sorted(set(_subfolders(folder)) - set(classes))
    if extra:
        known = f"the classes of train/: {', '.join(classes)}"
        raise DataError(f"{folder / extra[0]} is a class that train/ lacks", allowed=known, next_step="rename it")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise DataError(f"class folder {folder / name} is missing", next_step="add it, with images of that class")
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
        if not found:
            next_step = f"put images ({' '.join(sorted(SUFFIXES))}) directly into it, or remove it"
            raise DataError(f"class folder {folder / name} holds no image", next_step=next_step)
        paths += found
        labels += [label] * len(found)
    return Part(read_images(paths, image_size=image_size), np.asarray(labels, np.int64))

"""From what a source delivers to a data set: checks, the validation split, normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.data.base import ArraySplit, Dataset
from compress.data.partition import by_seed, stratified
from compress.data.sources import Part, RawData
from compress.data.split import Images, image_chunks
from compress.errors import DataError
from compress.recipe import DataSettings


def assemble(name: str, raw: RawData, settings: DataSettings, seed: int) -> Dataset:
    """Splits and normalises.

    The source's own validation images are used where it has any; else a stratified share of the training images, chosen
    by `seed`. Mean and deviation come from the recipe, else from the source, else from the training split.

    Raises:
        DataError: if parts do not fit each other, a label does not exist, or the share leaves no image.
    """
    _check(name, raw, settings)
    train, validation = raw.train, raw.validation
    if validation is None:
        kept, held = stratified(train.labels, settings.validation, by_seed(len(train.labels), seed))
        if settings.validation > 0 and not held.size:
            raise DataError(
                f"{name}: [data] validation holds out no image",
                got=f"{settings.validation} of {len(train.labels)} images",
                next_step="raise it, or set it to 0 for no validation",
            )
        validation = Part(train.images[held], train.labels[held])
        train = Part(train.images[kept], train.labels[kept])
    own_mean, own_std = raw.mean, raw.std
    if own_mean is None or own_std is None:
        computed = channel_statistics(train.images) if settings.mean is None or settings.std is None else ((), ())
        own_mean, own_std = own_mean or computed[0], own_std or computed[1]
    mean = tuple(own_mean if settings.mean is None else settings.mean)
    std = tuple(own_std if settings.std is None else settings.std)
    channels, height, width = train.images.shape[1:]
    return Dataset(
        name=name,
        train=ArraySplit(train.images, train.labels, mean, std),
        validation=ArraySplit(validation.images, validation.labels, mean, std),
        test=ArraySplit(raw.test.images, raw.test.labels, mean, std),
        classes=raw.classes,
        input_shape=(channels, height, width),
    )


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and standard deviation of each channel over all images and pixels.

    Args:
        images: uint8 (counted as x/255) or float32, [N, C, H, W].

    Returns:
        Mean and deviation, [C] each; the deviation of a channel that never changes is 1.
    """
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    pixels = len(images) * images.shape[2] * images.shape[3]
    total = np.zeros(images.shape[1])
    for chunk in image_chunks(images):
        total += images[chunk].sum(axis=(0, 2, 3), dtype=np.float64)
    mean = total / pixels
    squares = np.zeros(images.shape[1])
    # A second pass: the difference of two large sums would lose a small deviation.
    for chunk in image_chunks(images):
        squares += np.square(images[chunk] - mean[:, None, None]).sum(axis=(0, 2, 3))
    std = np.sqrt(squares / pixels)
    std[std <= 1e-7 * np.maximum(np.abs(mean), 1.0)] = unit
    return tuple((mean / unit).tolist()), tuple((std / unit).tolist())


def checked_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int) -> None:
    """Refuses a mean or std that does not fit the images. Raises DataError."""
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise DataError(f"[data] {key} needs one number a channel", got=list(values), allowed=f"{channels} numbers")
    if std is not None and min(std) <= 0:
        raise DataError("[data] std must be positive", got=list(std))


def _check(name: str, raw: RawData, settings: DataSettings) -> None:
    shape = raw.train.images.shape[1:]
    parts = {"train": raw.train, "validation": raw.validation, "test": raw.test}
    for part_name, part in parts.items():
        if part is None:
            continue
        if part.images.shape[1:] != shape:
            got = f"{list(part.images.shape[1:])} in {part_name}, {list(shape)} in train"
            raise DataError(f"{name}: images of different shapes", got=got, allowed="one [C, H, W]")
        if part.images.dtype != raw.train.images.dtype:
            got = f"{part.images.dtype} in {part_name}, {raw.train.images.dtype} in train"
            raise DataError(
                f"{name}: pixels of different types", got=got, allowed="one type: their scales would differ"
            )
        if part.labels.max() >= raw.classes:
            got = f"{int(part.labels.max())} in {part_name}"
            raise DataError(f"{name}: a label is too large", got=got, allowed=f"0 to {raw.classes - 1}, as in train")
    if raw.classes < 2:
        raise DataError(f"{name}: fewer than two classes", got=raw.classes)
    if settings.image_size is not None and (settings.image_size, settings.image_size) != shape[1:]:
        next_step = "leave it out: it resizes folders of images only"
        raise DataError(f"{name}: [data] image_size", got=settings.image_size, allowed=shape[1], next_step=next_step)
    checked_normalisation(settings.mean, settings.std, shape[0])

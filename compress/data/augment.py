"""Random changes of training images: padded crop, horizontal flip, Cutout. One batch at a time, on normalised values.

Padding and blanking use 0 *after* normalisation, the mean colour of the data set, as the papers do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compress.recipe import DataSettings

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augment:
    """Which changes are applied, in which order, and how large they are.

    Args:
        kinds: any of `crop`, `flip`, `cutout`, applied in this order.
        crop_padding: pixels of zeros around an image before a window of the old size is cut out.
        cutout_size: side in pixels of the square that Cutout blanks.
    """

    kinds: tuple[str, ...] = ()
    crop_padding: int = 4
    cutout_size: int = 8

    @classmethod
    def from_settings(cls, settings: DataSettings) -> Augment:
        """Takes the changes from the [data] table of a recipe."""
        return cls(tuple(settings.augment), settings.crop_padding, settings.cutout_size)


def augmented(images: Floats, augment: Augment, rng: np.random.Generator) -> Floats:
    """Applies `augment.kinds` in order.

    Args:
        images: float32 [N, C, H, W], normalised. May be overwritten.
        augment: what to do.
        rng: the only source of chance.

    Returns:
        float32 [N, C, H, W].

    Raises:
        ValueError: for a kind that does not exist; recipes cannot say one.
    """
    for kind in augment.kinds:
        if kind not in _KINDS:
            raise ValueError(f"unknown augmentation {kind!r}; known: {', '.join(_KINDS)}")
        images = _KINDS[kind](images, augment, rng)
    return images


def random_crop(images: Floats, augment: Augment, rng: np.random.Generator) -> Floats:
    """Pads each side by p zeros and cuts a window of the old size at one of (2p+1)² places, an own one for each image.

    Source: Lee, Xie, Gallagher, Zhang, Tu, "Deeply-Supervised Nets", 2015; He, Zhang, Ren, Sun, "Deep Residual
    Learning", 2016, §4.2.
    """
    count, channels, height, width = images.shape
    padding = augment.crop_padding
    tops = rng.integers(0, 2 * padding + 1, size=count)
    lefts = rng.integers(0, 2 * padding + 1, size=count)
    padded = np.zeros((count, channels, height + 2 * padding, width + 2 * padding), np.float32)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    # The two index arrays stand apart from `arange` by a slice, so their axis comes first: [N, C, H, W].
    return np.ascontiguousarray(windows[np.arange(count), :, tops, lefts])


def random_flip(images: Floats, _: Augment, rng: np.random.Generator) -> Floats:
    """Mirrors each image left to right with probability ½. Source: He et al. 2016, §4.2."""
    chosen = np.flatnonzero(rng.random(len(images)) < 0.5)
    images[chosen] = images[chosen, :, :, ::-1]
    return images


def cutout(images: Floats, augment: Augment, rng: np.random.Generator) -> Floats:
    """Blanks one square an image; its centre lies anywhere in the image, so the border may clip it.

    Source: DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017, §3.2. Their
    code blanks one row and column less where the side is odd; here the side is exact.
    """
    count, _, height, width = images.shape
    rows = _span(rng, count, augment.cutout_size, height)  # [N, H]
    columns = _span(rng, count, augment.cutout_size, width)  # [N, W]
    square = rows[:, None, :, None] & columns[:, None, None, :]  # [N, 1, H, W]
    np.copyto(images, np.float32(0), where=square)
    return images


def _span(rng: np.random.Generator, count: int, size: int, length: int) -> npt.NDArray[np.bool_]:
    """Returns the places along one axis, [count, length], that a span around a random centre covers."""
    starts = rng.integers(0, length, size=(count, 1)) - size // 2
    places = np.arange(length)[None, :]
    return (places >= starts) & (places < starts + size)


_KINDS: dict[str, Callable[[Floats, Augment, np.random.Generator], Floats]] = {
    "crop": random_crop,
    "flip": random_flip,
    "cutout": cutout,
}

"""Decoding image files into one array of bytes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compress.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_BYTE_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB"})


def read_images(
    paths: Sequence[Path], *, image_size: int | None = None, shape: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """Decodes image files, converted to RGB; grey is repeated, transparency dropped, EXIF rotation not applied.

    Args:
        paths: at least one.
        image_size: every image is resized (bilinear) to this side in pixels.
        shape: height and width that every image must have; without both, those of the first image.

    Returns:
        uint8 [N, 3, H, W].

    Raises:
        DataError: naming the first file that is unreadable, truncated, more than 8 bits deep, or of another size.
    """
    from PIL import Image

    # The filters are the whole process's, so they are set before any thread starts; only a huge image warns here. The
    # decoders of Pillow let go of the interpreter's lock, so threads help.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        first = _decode(paths[0], image_size)
        height, width = shape or (first.shape[1], first.shape[2])
        images = np.empty((len(paths), 3, height, width), np.uint8)
        for index, image in enumerate(pool.map(lambda path: _decode(path, image_size), paths)):
            if image.shape[1:] != (height, width):
                pool.shutdown(wait=False, cancel_futures=True)
                raise DataError(
                    f"{paths[index]}: size differs{'' if shape else f' from that of {paths[0]}'}",
                    got=f"{image.shape[2]}x{image.shape[1]} pixels",
                    allowed=f"{width}x{height}",
                    next_step="get the set again" if shape else "set [data] image_size to resize all images",
                )
            images[index] = image
    return images


def _decode(path: Path, image_size: int | None) -> npt.NDArray[np.uint8]:
    """Returns one image, uint8 [3, H, W]."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            if file.mode not in _BYTE_MODES:
                next_step = "convert it to 8 bits a channel"
                raise DataError(f"{path}: pixels of more than 8 bits", got=f"mode {file.mode}", next_step=next_step)
            # A palette with transparent entries goes through RGBA; Pillow warns where it goes to RGB at once.
            image = (file.convert("RGBA") if file.mode in ("P", "PA") else file).convert("RGB")
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, Warning) as error:
        raise DataError(f"{path}: not a readable image ({error})", next_step="replace or delete the file") from error
    if image_size is not None and image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.uint8).transpose(2, 0, 1)

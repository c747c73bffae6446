"""What arrays from outside must look like, and the errors where they do not."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from compress.data.split import Images, Labels, image_chunks
from compress.errors import DataError


def as_array(value: Any, where: str) -> npt.NDArray[Any]:
    """Turns an array, a nested list or a tensor (on any device) into a NumPy array.

    Raises:
        DataError: if it is none of these.
    """
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {type(value).__name__} is not an array ({error})") from error
    if array.dtype == object:
        raise DataError(f"{where}: an array of Python objects", allowed="numbers only")
    return array


def as_images(value: Any, where: str) -> Images:
    """Returns images as uint8 or float32 [N, C, H, W]; [N, H, W] becomes one channel.

    Args:
        value: uint8, another integer type within 0…255, or floating point.
        where: what to call it in messages.

    Raises:
        DataError: for another rank or type, channels last, integers beyond a byte, NaN or infinity.
    """
    array = as_array(value, where)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise DataError(f"{where}: images have the wrong rank", got=list(array.shape), allowed="[N, C, H, W]")
    if array.shape[3] in (1, 3, 4) and min(array.shape[1:3]) > 4:
        next_step = "transpose to [N, C, H, W]: x.transpose(0, 3, 1, 2)"
        raise DataError(f"{where}: channels stand last", got=list(array.shape), next_step=next_step)
    if 0 in array.shape[1:]:
        raise DataError(f"{where}: images without pixels", got=list(array.shape))
    if array.dtype == np.uint8:
        return cast("Images", array)
    if array.dtype.kind in "iu":
        if array.size and (array.min() < 0 or array.max() > 255):
            got = f"{array.dtype} {array.min()} to {array.max()}"
            raise DataError(f"{where}: integer pixels beyond a byte", got=got, allowed="0 to 255, or floating point")
        return array.astype(np.uint8)
    if array.dtype.kind != "f":
        raise DataError(f"{where}: pixels of the wrong type", got=str(array.dtype), allowed="uint8 or floating point")
    values = array.astype(np.float32, copy=False)
    for chunk in image_chunks(values):
        finite = np.isfinite(values[chunk]).all(axis=(1, 2, 3))
        if not finite.all():
            image = chunk.start + int(np.argmin(finite))
            raise DataError(f"{where}: image {image} holds NaN or infinity", next_step="mend or leave out that image")
    return values


def as_labels(value: Any, where: str) -> Labels:
    """Returns labels as int64 [N]; [N, 1] is flattened.

    Raises:
        DataError: for another rank, for numbers that are not integers, for negative ones.
    """
    array = as_array(value, where)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        next_step = "give class indices, not one-hot rows" if array.ndim == 2 else None
        raise DataError(
            f"{where}: labels have the wrong rank", got=list(array.shape), allowed="[N]", next_step=next_step
        )
    if array.dtype.kind not in "iu":
        raise DataError(f"{where}: labels of the wrong type", got=str(array.dtype), allowed="integers")
    labels = array.astype(np.int64)
    if labels.size and labels.min() < 0:
        raise DataError(f"{where}: a label is negative", got=int(labels.min()), allowed="0 to classes - 1")
    return labels

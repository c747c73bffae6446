"""Calibration images: checked, and cut to the batches that a model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from compress.errors import DataError, ModelFileError
from compress.onnx_io.session import input_shapes

if TYPE_CHECKING:
    import onnx


def limited(calibration: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Yields batches until they hold `samples` images, the last one cut; no batch is fetched beyond that."""
    left = samples
    batches = iter(calibration)
    while left > 0 and (batch := next(batches, None)) is not None:
        yield batch[:left]
        left -= len(batch)


def feeds(model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yields what to feed, one batch at a time.

    Args:
        model: with one input; if that has a fixed batch axis, batches are cut to it and the rest of each left out.
        calibration: float32 [N, …] as the network takes them.

    Raises:
        ModelFileError: if the model has several inputs.
        DataError: if the images do not fit the input, are not finite, or there are none.
    """
    specs = input_shapes(model)
    if len(specs) != 1:
        raise ModelFileError(
            "calibration images fit a model with one input", got=list(specs), next_step="give a model with one input"
        )
    ((name, spec),) = specs.items()
    fixed = next(value.type.tensor_type.shape.dim for value in model.graph.input if value.name == name)
    if not spec.shape:
        raise ModelFileError(f"input {name!r} is one number, no batch", next_step="give a model of images")
    size = fixed[0].dim_value
    count = 0
    for images in calibration:
        _require_fit(images, [axis.dim_value for axis in fixed], name)
        step = size if size > 0 else max(1, len(images))
        for start in range(0, len(images) - step + 1, step):
            count += step
            yield {name: np.ascontiguousarray(images[start : start + step])}
    if count == 0:
        raise DataError(
            "no calibration images" + (f" that fill a batch of {size}" if size > 1 else ""),
            next_step="give some, or choose format none",
        )


def _require_fit(images: np.ndarray, sizes: list[int], name: str) -> None:
    wanted = ["N", *(size if size > 0 else "any" for size in sizes[1:])]
    fits = images.ndim == len(sizes) and all(
        want in ("any", got) for want, got in zip(wanted[1:], images.shape[1:], strict=True)
    )
    if not fits or images.dtype != np.float32:
        raise DataError(
            f"calibration images do not fit input {name!r}",
            got=f"{images.dtype} {list(images.shape)}",
            allowed=f"float32 {wanted}",
            next_step="prepare them as for training",
        )
    if not np.isfinite(images).all():
        raise DataError("calibration images hold NaN or infinity", next_step="look for the damaged image")

"""Test accuracy of an ONNX file, by the runtime that will run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from compress.errors import DataError, ModelFileError
from compress.onnx_io.file import read_model, session


class Labelled(Protocol):
    """Images and labels in batches, such as a `compress.data.split.Split`."""

    def batches(self, batch_size: int) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """Yields images float32 [N, C, H, W] and labels int64 [N]; the last batch may be smaller."""


def onnx_accuracy(path: Path, split: Labelled, batch_size: int = 500, threads: int = 1) -> float:
    """Returns the share of images whose largest output is their label, in per cent.

    Args:
        path: a model with one image input and scores [N, classes] as its first output. Where its batch axis is fixed,
            batches of that size are fed, the last one filled up with zeros.
        split: the images.
        batch_size: images a run, where the batch axis is free.
        threads: of the runtime.

    Raises:
        ModelFileError: if the file is damaged, has several inputs, does not take the images, or gives no scores.
        DataError: if there are no images.
    """
    model = read_model(path)
    runner = session(path, threads)
    inputs = runner.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        raise ModelFileError(
            f"model {path} is no image classifier",
            got=[f"{value.name}: {value.type}" for value in inputs],
            allowed="one float32 input",
            next_step="measure its accuracy with your own code",
        )
    axis = next(v for v in model.graph.input if v.name == inputs[0].name).type.tensor_type.shape.dim[:1]
    fixed = axis[0].dim_value if axis and axis[0].dim_value > 0 else None
    right = count = 0
    for images, labels in split.batches(fixed or batch_size):
        padding = [(0, fixed - len(images) if fixed else 0)] + [(0, 0)] * (images.ndim - 1)
        try:
            scores = runner.run(None, {inputs[0].name: np.pad(images, padding)})[0][: len(images)]
        except Exception as error:
            raise ModelFileError(
                f"model {path} does not take images of shape {list(images.shape)}: {error}",
                next_step="check that data and model belong together",
            ) from error
        scores = scores.reshape(len(scores), -1)
        if len(scores) != len(labels) or scores.shape[1] <= labels.max(initial=0):
            raise ModelFileError(
                f"model {path} gives scores of shape {list(scores.shape)} for {len(labels)} images",
                allowed=f"at least {labels.max(initial=0) + 1} classes",
                next_step="check that data and model belong together",
            )
        right += int((scores.argmax(axis=1) == labels).sum())
        count += len(labels)
    if count == 0:
        raise DataError("no images to measure accuracy on", next_step="check the data set's test part")
    return 100.0 * right / count

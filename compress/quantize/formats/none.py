"""No format of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.format import Converted, Format, formats

if TYPE_CHECKING:
    import onnx


@formats.register("none")
@dataclass(frozen=True)
class Unchanged(Format):
    """The model as it is.

    Source: –
    """

    def convert(self, model: onnx.ModelProto, calibration: Iterable[np.ndarray]) -> Converted:
        """Returns the model itself; the calibration images are not looked at."""
        return Converted(model)

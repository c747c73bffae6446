"""What interpolation along one axis reads: each position of the result is a weighted sum of positions of the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compress.channels.graph import Array

# From positions of the result to positions of the input, given the scale and both sizes.
_PLACES: dict[str, Callable[[Array, float, int, int], Array]] = {
    "asymmetric": lambda at, scale, before, after: at / scale,
    "half_pixel": lambda at, scale, before, after: (at + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda at, scale, before, after: (at + 0.5) / scale - 0.5 if after > 1 else 0 * at,
    "align_corners": lambda at, scale, before, after: at * ((before - 1) / (after - 1)) if after > 1 else 0 * at,
}
_ROUNDED: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def interpolation(attributes: Mapping[str, Any], scale: float, before: int, after: int) -> Array | None:
    """Returns what each position of the result reads of the input; None for what is not spoken for here.

    Args:
        attributes: of a Resize of version 11 or later.
        scale: of the axis.
        before: its size in the input.
        after: its size in the result.

    Returns:
        Shape: (after, before).
    """
    mode = _text(attributes, "mode", "nearest")
    place = _PLACES.get(_text(attributes, "coordinate_transformation_mode", "half_pixel"))
    rounded = _ROUNDED.get(_text(attributes, "nearest_mode", "round_prefer_floor"))
    if place is None or rounded is None or mode not in ("nearest", "linear") or attributes.get("antialias", 0):
        return None
    at = place(np.arange(after, dtype=np.float64), scale, before, after).clip(0, before - 1)
    matrix, rows = np.zeros((after, before)), np.arange(after)
    if mode == "nearest":
        matrix[rows, rounded(at).clip(0, before - 1).astype(int)] = 1
        return matrix
    low = np.floor(at).astype(int)
    np.add.at(matrix, (rows, low), 1 - (at - low))
    np.add.at(matrix, (rows, (low + 1).clip(max=before - 1)), at - low)
    return matrix


def _text(attributes: Mapping[str, Any], name: str, default: str) -> str:
    value = attributes.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)

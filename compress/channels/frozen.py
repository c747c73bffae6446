"""Stand-ins for attributes and values by which they can be looked up."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np

_PLAIN = (int, float, str, bytes, type(None))


def frozen(value: object) -> Hashable:
    """Returns a hashable stand-in for an attribute or a value."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, list | tuple):
        return tuple([frozen(item) for item in value])
    if isinstance(value, Mapping):
        return tuple([(key, frozen(item)) for key, item in sorted(value.items())])
    return repr(value)

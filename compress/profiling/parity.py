"""Whether a device computes what this machine does: outputs of the same model for the same inputs, held together."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compress.errors import ModelFileError

Arrays = dict[str, np.ndarray]
# What this machine feeds each model and what comes out; or why it cannot run them, which another one may.
Given = Sequence[tuple[Arrays, Arrays]] | ModelFileError
# An output comes back in the device's answer, a few characters a byte: this many numbers of a model at most.
MOST_NUMBERS = 1 << 18
# Beyond, inputs are other ones; a last digit may differ where they were drawn on another processor.
_SAME_INPUTS = 1e-6


def few(outputs: Arrays) -> bool:
    """Tells whether outputs are so few numbers that a device sends them back."""
    return sum(array.size for array in outputs.values()) <= MOST_NUMBERS


def parity(outputs: Arrays | None, expected: Arrays) -> tuple[float | None, str | None]:
    """Returns the largest absolute difference, or None and why there is none.

    Args:
        outputs: name → array, as they came from a device; None if they were not sent.
        expected: this machine's.
    """
    if outputs is None:
        return None, f"outputs were not sent to be compared: more than {MOST_NUMBERS:,} numbers, or no `od` there"
    largest = 0.0
    for name, array in expected.items():
        other = outputs.get(name)
        if other is None or array.shape != other.shape:
            return None, f"output {name!r} has another shape than on this machine: nothing was compared"
        a, b = array.astype(np.float64), other.astype(np.float64)
        unlike = (a != b) & ~(np.isnan(a) & np.isnan(b))
        if not np.isfinite(a[unlike]).all() or not np.isfinite(b[unlike]).all():
            return None, f"output {name!r} holds infinities or no numbers at places where this machine's does not"
        largest = max(largest, float(np.abs(a[unlike] - b[unlike]).max(initial=0.0)))
    return (largest, None) if expected else (None, "it has no output of numbers: nothing was compared")


def same_inputs(sums: Mapping[str, float], feed: Arrays) -> bool:
    """Tells whether a device fed what this machine did.

    Args:
        sums: input → sum of magnitudes, as `runner.magnitudes` returns them.
        feed: this machine's.
    """
    return sums.keys() == feed.keys() and all(
        np.isclose(sums[name], np.abs(array.astype(np.float64)).sum(), rtol=_SAME_INPUTS, atol=0)
        for name, array in feed.items()
    )


def arrays_of(sent: Sequence[Mapping[str, Any]]) -> Arrays:
    """Reads arrays as `runner.in_text` writes them.

    Raises:
        LookupError, TypeError, ValueError: if they are not that.
    """
    return {
        str(one["name"]): np.frombuffer(base64.b64decode(one["base64"]), np.dtype(one["type"])).reshape(one["shape"])
        for one in sent
    }

"""How far the outputs of two models are apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Difference:
    """How far two lists of outputs are apart.

    Attributes:
        absolute: the largest difference of two numbers.
        relative: the largest difference of an output, relative to the larger of 1 and its largest magnitude.
        output: where that is.
        reason: what no tolerance covers: a shape, a type, an integer, what is not finite. None if there is no such.
    """

    absolute: float = 0.0
    relative: float = 0.0
    output: str = ""
    reason: str | None = None

    def within(self, tolerance: float) -> bool:
        """Tells whether the outputs agree."""
        return self.reason is None and self.relative <= tolerance


def difference(names: Sequence[str], expected: Sequence[Any], found: Sequence[Any]) -> Difference:
    """Compares outputs.

    Args:
        names: of the outputs.
        expected: arrays, or lists where the model returns sequences or maps.
        found: the same of the other model.
    """
    largest = Difference()
    if len(expected) != len(found):
        return Difference(reason=f"it has {len(found)} outputs, before {len(expected)}")
    for name, before, after in zip(names, expected, found, strict=True):
        first, second = list(_leaves(before)), list(_leaves(after))
        if len(first) != len(second):
            return Difference(output=name, reason=f"output {name!r} has {len(second)} parts, before {len(first)}")
        for a, b in zip(first, second, strict=True):
            one = _of_arrays(name, np.asarray(a), np.asarray(b))
            if one.reason is not None:
                return one
            worst = one if one.relative > largest.relative or not largest.output else largest
            largest = Difference(max(largest.absolute, one.absolute), worst.relative, worst.output)
    return largest


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _of_arrays(name: str, a: Any, b: Any) -> Difference:
    what = f"output {name!r}"
    if a.shape != b.shape or a.dtype != b.dtype:
        return Difference(output=name, reason=f"{what} has shape {b.shape} {b.dtype}, before {a.shape} {a.dtype}")
    if a.dtype.kind in "iu" and a.dtype.itemsize == 1 and a.size:
        # A quantized output: a rounding may fall to the other side.
        steps = int(np.abs(a.astype(np.int64) - b).max())
        return Difference(float(steps), 0.0, name, None if steps <= 1 else f"{what} differs by {steps} steps")
    if a.size == 0 or a.dtype.kind not in "fc":
        return Difference(output=name, reason=None if (a == b).all() else f"{what} differs")
    if np.array_equal(a, b):
        return Difference(output=name)
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return Difference(output=name, reason=f"{what} differs where it is not finite")
    if not finite.any():
        return Difference(output=name)
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    # Picking the finite ones takes longer than all the rest.
    x, y = (value.astype(wide) if finite.all() else value[finite].astype(wide) for value in (a, b))
    if not np.isfinite(y).all():
        return Difference(output=name, reason=f"{what} is no longer finite")
    absolute = float(np.abs(x - y).max())
    return Difference(absolute, absolute / max(1.0, float(np.abs(x).max())), name)

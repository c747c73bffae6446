"""The proof of a rewrite: both models give the same outputs, on ordinary and on extreme inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from compress.onnx_io.session import random_inputs, session

# Inputs of these magnitudes are tried, each with another draw; 0 is the all-zero input.
_MAGNITUDES = (1.0, 1.0, 0.0, 100.0, 1e-3)
# Sizes of free axes: the first that the original takes.
_SIZES = (64, 512, 16, 1)


@dataclass(frozen=True)
class Proof:
    """How two models compare.

    Attributes:
        holds: whether all outputs agree within the tolerance.
        max_abs_diff: the largest difference on inputs of ordinary magnitude (1 and below).
        max_rel_diff: the largest difference of any output, relative to the larger of 1 and its largest magnitude.
        reason: why it does not hold.
    """

    holds: bool
    max_abs_diff: float = 0.0
    max_rel_diff: float = 0.0
    reason: str | None = None


def prove(before: ModelProto, after: ModelProto, *, tolerance: float, seed: int = 0) -> Proof:
    """Compares two models on random, zero, large and tiny inputs, and on two batch sizes where the batch is free.

    Args:
        before: the original.
        after: what is to be proven.
        tolerance: largest difference, relative to the larger of 1 and the output's largest magnitude.
        seed: of the inputs.
    """
    try:
        onnx.checker.check_model(after)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        return Proof(False, reason=f"the checker refuses it: {str(error).splitlines()[0]}")
    first = session(before.SerializeToString())
    try:
        second = session(after.SerializeToString())
    except Exception as error:  # noqa: BLE001 - whatever the runtime says of our own result is the finding
        return Proof(False, reason=f"the runtime refuses it: {error}")
    largest_abs = largest_rel = 0.0
    compared = 0
    for index, magnitude in enumerate(_MAGNITUDES):
        for size in _SIZES:
            drawn = random_inputs(before, seed + index, batch_size=1 + index % 2, default=size)
            inputs = _scaled(drawn, magnitude)
            expected = _run(first, inputs)
            if not isinstance(expected, str):
                break
        else:
            # The original does not take these inputs either: nothing to compare.
            continue
        compared += 1
        found = _run(second, inputs)
        if isinstance(found, str):
            return Proof(False, largest_abs, largest_rel, f"it fails where the original runs: {found}")
        for name, a, b in zip([o.name for o in first.get_outputs()], expected, found, strict=True):
            absolute, relative, reason = _difference(name, np.asarray(a), np.asarray(b))
            if reason is not None or relative > tolerance:
                reason = reason or f"output {name!r} differs by {relative:.3g} at inputs of magnitude {magnitude:g}"
                return Proof(False, max(largest_abs, absolute), max(largest_rel, relative), reason)
            largest_abs = max(largest_abs, absolute if magnitude <= 1 else 0.0)
            largest_rel = max(largest_rel, relative)
    if not compared:
        return Proof(False, reason=f"the original takes none of the inputs tried: {expected}")
    return Proof(True, largest_abs, largest_rel)


def _scaled(inputs: dict[str, Any], magnitude: float) -> dict[str, Any]:
    return {n: (x * x.dtype.type(magnitude) if x.dtype.kind == "f" else x) for n, x in inputs.items()}


def _run(running: Any, inputs: dict[str, Any]) -> list[Any] | str:
    try:
        outputs: list[Any] = running.run(None, inputs)
    except Exception as error:  # noqa: BLE001 - the runtime's errors have no base class; the text is passed on
        return str(error).splitlines()[0]
    return outputs


def _difference(name: str, a: Any, b: Any) -> tuple[float, float, str | None]:
    if a.shape != b.shape or a.dtype != b.dtype:
        return 0.0, 0.0, f"output {name!r} has shape {b.shape} {b.dtype}, before {a.shape} {a.dtype}"
    if a.size == 0 or a.dtype.kind not in "fiub":
        return 0.0, 0.0, None if (a == b).all() else f"output {name!r} differs"
    finite = np.isfinite(a) if a.dtype.kind == "f" else np.ones(a.shape, dtype=bool)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=a.dtype.kind == "f"):
        return 0.0, 0.0, f"output {name!r} differs where it is not finite"
    if not finite.any():
        return 0.0, 0.0, None
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    if not np.isfinite(y).all():
        return 0.0, 0.0, f"output {name!r} is no longer finite"
    absolute = float(np.abs(x - y).max())
    return absolute, absolute / max(1.0, float(np.abs(x).max())), None

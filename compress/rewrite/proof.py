"""The proof of a rewrite: both models give the same outputs, on ordinary and on extreme inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto

from compress.onnx_io.session import random_inputs, session

_MAGNITUDES = (1.0, 0.0, 100.0, 1e-3)
# Sizes of free axes, and bounds of integer inputs (which may be indices): whatever of them the original takes.
_SIZES = (64, 512, 16, 1)
_BOUNDS = (1000, 100, 10, 2, 1)
_SYMBOLS = 4  # so many named axes are also tried with a size of their own


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
    """Compares two models on random, zero, large and tiny inputs, and on several sizes of each free axis.

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
    compared, refusal = 0, ""
    for trial in _trials(before):
        for bound in _BOUNDS:
            inputs = _scaled(random_inputs(before, seed + trial.seed, **trial.shape, bound=bound), trial.magnitude)
            expected = _run(first, inputs)
            if not isinstance(expected, str):
                break
            refusal = expected
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
                reason = reason or f"output {name!r} differs by {relative:.3g} at {trial}"
                return Proof(False, max(largest_abs, absolute), max(largest_rel, relative), reason)
            largest_abs = max(largest_abs, absolute if trial.magnitude <= 1 else 0.0)
            largest_rel = max(largest_rel, relative)
    if not compared:
        return Proof(False, reason=f"the original takes none of the inputs tried: {refusal}")
    return Proof(True, largest_abs, largest_rel)


@dataclass(frozen=True)
class _Trial:
    """Inputs to compare on: magnitude of floats, sizes of free axes, and the seed of the draw."""

    magnitude: float
    shape: dict[str, Any]
    seed: int

    def __str__(self) -> str:
        return f"inputs of magnitude {self.magnitude:g}, sizes {self.shape}"


def _trials(model: ModelProto) -> Iterator[_Trial]:
    """Yields every magnitude; every size of free axes; and, for named axes, sizes that differ from one another."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    axes = [
        dim
        for value in model.graph.input
        if value.name not in initializers
        for dim in value.type.tensor_type.shape.dim[1:]
        if not dim.dim_value > 0
    ]
    symbols = list(dict.fromkeys(dim.dim_param for dim in axes if dim.dim_param))[:_SYMBOLS]
    sizes = _SIZES if axes else _SIZES[:1]
    for seed, magnitude in enumerate(_MAGNITUDES):
        for size in sizes if magnitude in (0.0, 1.0) else sizes[:2]:
            yield _Trial(magnitude, {"batch_size": 1 + seed % 2, "default": size}, seed)
    for seed, size in enumerate(sizes if len(symbols) > 1 else (), start=len(_MAGNITUDES)):
        apart = {symbol: size + index for index, symbol in enumerate(symbols)}
        yield _Trial(1.0, {"batch_size": 2, "default": size, "sizes": apart}, seed)
        for symbol in symbols:
            yield _Trial(1.0, {"batch_size": 2, "default": size, "sizes": {symbol: 1}}, seed)


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
    if a.dtype.kind in "iu" and a.dtype.itemsize == 1 and a.size:
        # A quantized output: a rounding may fall to the other side.
        steps = int(np.abs(a.astype(np.int64) - b).max())
        return float(steps), 0.0, None if steps <= 1 else f"output {name!r} differs by {steps} steps"
    if a.size == 0 or a.dtype.kind != "f":
        return 0.0, 0.0, None if (a == b).all() else f"output {name!r} differs"
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return 0.0, 0.0, f"output {name!r} differs where it is not finite"
    if not finite.any():
        return 0.0, 0.0, None
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    if not np.isfinite(y).all():
        return 0.0, 0.0, f"output {name!r} is no longer finite"
    absolute = float(np.abs(x - y).max())
    return absolute, absolute / max(1.0, float(np.abs(x).max())), None

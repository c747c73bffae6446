"""Arithmetic on cell arrays: arrays that broadcast to a tensor's shape and hold one entry for each set of positions.

Labels (atoms), values (NaN: unknown) and needs (booleans) are all cell arrays, so one function moves them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.channels.factors import every, padded_shape, some
from compress.channels.graph import INTEGERS, Array, Node, Shape

if TYPE_CHECKING:
    from compress.channels.trace import Trace

_BLOCK_ELEMENTS = 1 << 20
_ABSENT = np.zeros(0, np.float32)
_EXACT = 2.0**53  # up to which every integer is a float64


def combine(node: Node, trace: Trace, function: Callable[[list[Array]], Array], *, in_part: bool = True) -> None:
    """Sets the first output's value to `function` of the inputs' values, where they are known.

    An input that is not known enters as NaN, an absent one as an empty array. Integers and truth values have no NaN:
    where only some of them are known, they are held as numbers (see `store`), and a result of that kind is known where
    all that enters there is, or where what is not known makes no difference. Not so without `in_part`: what works on
    its inputs as wholes needs them all.
    """
    exemplary = not trace.examples.keys().isdisjoint(node.inputs)
    _combine(node, trace, function, trace.values, in_part=in_part)
    if exemplary:
        _combine(node, trace, function, trace.values | trace.examples, example=True, in_part=False)


def _combine(
    node: Node,
    trace: Trace,
    function: Callable[[list[Array]], Array],
    known: dict[str, Array],
    *,
    example: bool = False,
    in_part: bool,
) -> None:
    values = [known.get(name) if name else _ABSENT for name in node.inputs]
    present = [value for value in values if value is not None and value is not _ABSENT]
    if not present:
        return
    kinds = [_kind(name, value, trace) for name, value in zip(node.inputs, values, strict=True)]
    rank = len(trace.graph.shapes[node.outputs[0]])
    number = next((value.dtype for value in present if value.dtype.kind == "f"), np.dtype(np.float64))
    filled = [value if value is not None else np.full((1,) * rank, np.nan, number) for value in values]
    with np.errstate(all="ignore"):
        try:
            if all(kind is not None and kind.kind == "f" for kind in kinds) or _whole(filled):
                result = np.asarray(function(filled))
                if result.dtype.kind == "f" or _whole(filled):
                    store(node.outputs[0], result, trace, example=example)
                    return
            types = [kind for kind in kinds if kind is not None]
            if in_part and len(types) == len(filled):
                store(node.outputs[0], _in_part(function, filled, types), trace)
        except (ValueError, TypeError, KeyError, ZeroDivisionError):
            # The function does not hold for these values (an unknown element type, a cast of NaN): unknown it stays.
            return


def _whole(values: Sequence[Array]) -> bool:
    """Tells whether all of some values are known."""
    return not any(some(np.isnan(value)) for value in values if value.dtype.kind == "f")


def _kind(name: str, value: Array | None, trace: Trace) -> np.dtype[Any] | None:
    """Returns the element type of a node's input: its own, where it is held as numbers; None if it is not known."""
    declared = trace.graph.types.get(name)
    if value is None or (value.dtype.kind == "f" and declared is not None and declared.kind in INTEGERS):
        return declared
    return value.dtype


def _in_part(
    function: Callable[[list[Array]], Array], values: Sequence[Array], kinds: Sequence[np.dtype[Any]]
) -> Array:
    """Returns `function` of values of which some are not known (NaN), where a NaN cannot enter. As float64.

    Integers divide, wrap and compare as integers do: anything takes the place of what is not known, and what comes of
    that is not looked at, unless calculating with NaN gives the same.
    """
    known = [~np.isnan(value) if value.dtype.kind == "f" else np.ones(value.shape, dtype=bool) for value in values]
    exact = [np.where(k, v, 1).astype(kind) for k, v, kind in zip(known, values, kinds, strict=True)]
    result = np.asarray(function(exact)).astype(np.float64)
    sure = np.broadcast_to(True, result.shape)
    for mask in (mask for mask in known if mask.size):
        sure = sure & mask
    if not sure.all():
        numbers = [value if value.dtype.kind == "f" else value.astype(np.float64) for value in values]
        loose = np.asarray(function(numbers))
        sure = sure | (loose == result) if loose.dtype.kind == "f" else sure
    return np.asarray(np.where(sure, result, np.nan))


def store(name: str, value: Array, trace: Trace, *, example: bool = False, fixed: Array | None = None) -> None:
    """Records what is known of a tensor, unless nothing is. Infinities count as unknown.

    Integers and truth values of which only some are known are held as numbers (float64), NaN for the others; what is
    no such integer, or not one that a float64 holds exactly, counts as unknown.

    Args:
        name: of the tensor.
        value: what is known.
        trace: where to record it.
        example: whether it holds for the example sizes of free axes only.
        fixed: for an example, which entries hold for all sizes; if all do, it is none.
    """
    if example and fixed is not None and not fixed.all():
        trace.fixed[name] = fixed
    example = example and (fixed is None or not fixed.all())
    if value.dtype.kind == "f":
        sound = _sound(value, trace.graph.types.get(name))
        if sound is None:
            return
        value = sound
    value = value.reshape(padded_shape(value.shape, len(trace.graph.shapes[name])))
    (trace.examples if example else trace.values)[name] = value


def _sound(value: Array, declared: np.dtype[Any] | None) -> Array | None:
    """Returns numbers without what their tensor cannot hold; as integers if they are ones and all known.

    None if nothing is left.
    """
    sound = np.isfinite(value)
    if declared is not None and declared.kind in INTEGERS:
        low, high = (0, 1) if declared.kind == "b" else (np.iinfo(declared).min, np.iinfo(declared).max)
        value = value.astype(np.float64)
        with np.errstate(all="ignore"):
            sound &= (value == np.rint(value)) & (value >= low) & (value <= high) & (np.abs(value) <= _EXACT)
        if every(sound):
            return value.astype(declared)
    if not some(sound):
        return None
    return value if every(sound) else np.where(sound, value, np.asarray(np.nan, value.dtype))


def project(cells: Array, shape: Shape) -> Array:
    """Returns which cells of an operand of `shape` some cell of the broadcast result stems from."""
    leading = tuple(range(cells.ndim - len(shape)))
    cells = np.asarray(cells.any(axis=leading)) if leading else cells
    axes = tuple([axis for axis, size in enumerate(shape) if size == 1 and cells.shape[axis] > 1])
    return np.asarray(cells.any(axis=axes, keepdims=True) if axes else cells)


def only_axis(cells: Array, axis: int, size: int) -> Array:
    """Returns, for each position of one axis, whether any cell there is true. Shape: (size,)."""
    axis %= cells.ndim
    others = tuple([a for a, length in enumerate(cells.shape) if length != 1 and a != axis])
    found = (cells.any(axis=others) if others else cells).reshape(-1)
    return found if found.size == size else np.broadcast_to(found, (size,))


def along(cells: Array, axis: int, size: int) -> Array:
    """Returns the value at each position of one axis, NaN where it is unknown or not the same all over the others."""
    found = cells.reshape(-1)
    if cells.size != cells.shape[axis] or cells.dtype.kind != "f":
        rows = np.moveaxis(cells, axis, 0).reshape(cells.shape[axis], -1)
        found = np.where((rows == rows[:, :1]).all(axis=1), rows[:, 0], np.nan)
    return found if found.size == size else np.broadcast_to(found, (size,))


def reading(pairs: Array, inputs: Array | None = None) -> Array:
    """Returns which outputs read one of the marked inputs, or any. Shapes: (g, O/g, C/g) and (C,) → (O,)."""
    marked = pairs if inputs is None or every(inputs) else pairs & inputs.reshape(len(pairs), 1, -1)
    return _any_along(marked, 2).reshape(-1)


def read_by(pairs: Array, outputs: Array) -> Array:
    """Returns which inputs one of the marked outputs reads. Shapes: (g, O/g, C/g) and (O,) → (C,)."""
    return _any_along(pairs if every(outputs) else pairs & outputs.reshape(len(pairs), -1, 1), 1).reshape(-1)


def _any_along(cells: Array, axis: int) -> Array:
    """Does what `any` does along an axis, which takes its time over many axes of one position (depthwise)."""
    return cells if cells.shape[axis] == 1 else np.asarray(cells.any(axis=axis))


def response(weight: Array, inputs: Array, places: Array | None = None) -> Array:
    """Returns the weighted sum over constant inputs, of a kernel over its places: Σ_c x_c Σ_k W[o, c, k].

    In double precision, a block of rows at a time: a weight may be most of the memory that there is.

    Args:
        weight: Shape: (O, C, …).
        inputs: Shape: (C,); columns of zeros are not read.
        places: how much each place of a kernel counts, flat; None: all of them, once.
    """
    columns = np.flatnonzero(inputs)
    sums = np.zeros(len(weight))
    step = max(1, _BLOCK_ELEMENTS // max(1, columns.size * math.prod(weight.shape[2:])))
    for start in range(0, len(weight) if columns.size else 0, step):
        block = weight[start : start + step, columns].astype(np.float64)
        if places is not None and (places != 1).any():
            block = (block.reshape(*block.shape[:2], places.size) @ places)[..., None]
        sums[start : start + step] = block.sum(axis=tuple(range(2, block.ndim))) @ inputs[columns]
    return sums


def same(first: Array, second: Array) -> bool:
    """Tells whether two arrays are equal, NaN being equal to NaN."""
    equal = first == second
    if first.dtype.kind == "f":
        equal = equal | (np.isnan(first) & np.isnan(second))
    return every(equal)


def shrink(cells: Array, axes: range | tuple[int, ...]) -> Array:
    """Gives size 1 to those of `axes` along which nothing changes."""
    for axis in axes:
        if cells.shape[axis] > 1:
            first = cells[(slice(None),) * axis + (slice(1),)]
            if same(cells, first):
                cells = first
    return cells


def regroup(cells: Array, before: Shape, after: Shape) -> Array:
    """Applies a reshape from `before` to `after` to a cell array.

    Axes are matched from the left in groups of equal size, so that only groups which the array covers grow.
    """
    if 0 in before or 0 in after:
        return np.broadcast_to(cells, before).reshape(after)
    grown, target, groups = _regrouping(cells.shape, tuple(before), tuple(after))
    result = (cells if cells.shape == grown else np.broadcast_to(cells, grown)).reshape(target)
    for group in groups:
        result = shrink(result, group)
    return result


@lru_cache(maxsize=1024)
def _regrouping(shape: Shape, before: Shape, after: Shape) -> tuple[Shape, Shape, tuple[range, ...]]:
    """Returns what a cell array of a shape grows to, what that is reshaped to, and axes that may shrink then."""
    grown, target, groups = [], [], []
    i = j = 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        left = right = 1
        while i == start_i or j == start_j or left != right:
            if (left <= right and i < len(before)) or j >= len(after):
                if i >= len(before):
                    break
                left *= before[i]
                i += 1
            else:
                right *= after[j]
                j += 1
            if left == right and (i > start_i or i >= len(before)) and (j > start_j or j >= len(after)):
                break
        covered = any(shape[axis] > 1 for axis in range(start_i, i))
        grown += [before[axis] if covered else 1 for axis in range(start_i, i)]
        target += [after[axis] if covered else 1 for axis in range(start_j, j)]
        if covered and before[start_i:i] != after[start_j:j]:
            groups.append(range(start_j, j))
    return tuple(grown), tuple(target), tuple(groups)

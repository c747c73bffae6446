"""Likeness through operators that combine their operands position by position."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compress.channels.alike import Likeness
from compress.channels.alike_cells import Cells
from compress.channels.factors import every, some
from compress.channels.graph import Array, Node
from compress.channels.multiples import normalised
from compress.channels.numbering import ONE

if TYPE_CHECKING:
    from compress.channels.trace import Trace

_NOTHING = 2**62  # in place of the id of a term that is not there; sorted behind all others
_SAME = ("Identity", "Dropout")
_SUMS = ("Add", "Sub", "Sum", "Mean")
_SIGNS = {"Add": (1.0, 1.0), "Sub": (1.0, -1.0)}
_HOMOGENEOUS = ("Abs", "LeakyRelu", "PRelu", "Relu")  # f(s·x) = s·f(x) for s > 0


def elementwise(node: Node, trace: Trace, likeness: Likeness, operands: int | None) -> None:
    """Sets the cells of a result from the operator and the operands' cells at each position.

    Args:
        node: the operation.
        trace: what is known of the graph.
        likeness: what is known so far; the result goes there.
        operands: how many inputs are combined position by position; all if None.
    """
    graph, y = trace.graph, node.outputs[0]
    names = [name for name in node.inputs[:operands] if name]
    whole = [_spans(name, y, trace) for name in names]
    cells = [likeness.of(names[0])] if len(names) == 1 and whole[0] else _operands(names, y, likeness)
    # Constants know no sizes: where only they have the result's, the result's own sizes are part of what it is.
    spanned = any(whole[i] and not (one.ids == ONE).any() for i, one in enumerate(cells))
    sizes: Hashable = () if spanned else (graph.shapes[y], y if any(graph.dynamic.get(y, ())) else "")
    if len(names) == 1 and node.operator not in _SUMS:
        likeness.set(y, _mapped(node, operands, likeness, cells[0], whole[0], sizes))
        return
    shape = cells[0].ids.shape
    ids, scales = _beside([one.ids for one in cells]), _beside([one.scales for one in cells])
    found, factors = _combined(node, operands, likeness, ids, scales, whole, sizes)
    likeness.set(y, Cells(found.reshape(shape), factors.reshape(shape)))


def _operands(names: Sequence[str], y: str, likeness: Likeness) -> list[Cells]:
    """Returns the operands' cells in one shape: told apart along all axes along which one of them is."""
    shapes = likeness.trace.graph.shapes
    rank = len(shapes[y])
    axes = sorted({axis + rank - len(shapes[name]) for name in names for axis in likeness.covered(name)})
    cells = [likeness.operand(name, axes, rank) for name in names]
    different = {one.ids.shape for one in cells}
    shape = np.broadcast_shapes(*different) if len(different) > 1 else cells[0].ids.shape
    return [one.broadcast(shape) for one in cells]


def _beside(parts: list[Array]) -> Array:
    """Returns what arrays of one shape hold at each position. Shape: (arrays, positions)."""
    return parts[0].reshape(1, -1) if len(parts) == 1 else np.array(parts).reshape(len(parts), -1)


def affine(x: Cells, gain: Array, shift: Array, likeness: Likeness, sizes: Hashable) -> Cells:
    """Returns the cells of gain · x + shift; gain and shift broadcast to the cells."""
    shape = np.broadcast_shapes(x.ids.shape, gain.shape, shift.shape)
    terms = x.broadcast(shape)
    ids = _beside([terms.ids, np.full(shape, ONE)])
    scales = _beside([terms.scales * gain, np.broadcast_to(shift, shape)])
    found, factors = _sum(likeness, ids, scales, [True, False], sizes)
    return Cells(found.reshape(shape), factors.reshape(shape))


def _mapped(node: Node, operands: int | None, likeness: Likeness, x: Cells, whole: bool, sizes: Hashable) -> Cells:
    """Returns the cells of a function of one operand."""
    if node.operator in _SAME and whole:
        return x
    if node.operator == "Neg":
        return Cells(x.ids, -x.scales)
    signature = _signature(node, operands, likeness, sizes)
    return likeness.applied(signature, x, homogeneous=node.operator in _HOMOGENEOUS)


def _combined(
    node: Node,
    operands: int | None,
    likeness: Likeness,
    ids: Array,
    scales: Array,
    whole: Sequence[bool],
    sizes: Hashable,
) -> tuple[Array, Array]:
    """Returns ids and scales of a function of operands, given theirs. Shapes: (operands, n) → (n,)."""
    operator, count = node.operator, len(ids)
    if operator in _SUMS:
        signs = np.array(_SIGNS.get(operator, (1.0,) * count))[:, None]
        return _sum(likeness, ids, scales * signs / (count if operator == "Mean" else 1), whole, sizes)
    if operator == "Div" and _divides(node.input(1), ids[1], scales[1], likeness.trace):
        return _product(likeness, ids, np.array([scales[0], 1 / scales[1]]), whole, sizes)
    if operator == "Mul":
        return _product(likeness, ids, scales, whole, sizes)
    signature = _signature(node, operands, likeness, sizes)
    if operator in _HOMOGENEOUS:
        keys = np.concatenate([ids, np.sign(scales[:1]).astype(np.int64)])
        return likeness.numbering.number(signature, keys.T, scales[1:].T), np.abs(scales[0])
    return likeness.numbering.number(signature, ids.T, scales.T), np.ones(ids.shape[1])


def _signature(node: Node, operands: int | None, likeness: Likeness, sizes: Hashable) -> Hashable:
    """Returns all that decides what a node does with its operands."""
    parameters = node.inputs[operands:] if operands is not None else ()
    given = tuple([bool(name) for name in node.inputs])
    return (likeness.signature(node, None, parameters), given, sizes)


def _sum(likeness: Likeness, ids: Array, scales: Array, whole: Sequence[bool], sizes: Hashable) -> tuple[Array, Array]:
    """Returns ids and scales of sums of terms; a sum of one whole term is that term. Shapes: (terms, n) → (n,)."""
    known = ids == ONE
    constant = np.where(known, scales, 0).sum(axis=0)
    varying = np.flatnonzero(~known.all(axis=1))
    if varying.size == 1 and not some(known[varying[0]]) and every(scales[varying[0]]):
        one = int(varying[0])
        return _shifted(likeness, ids[one], scales[one], constant, whole[one], len(ids), sizes)
    complete = np.broadcast_to(np.array(whole)[:, None], ids.shape)
    ids, scales, complete = _sorted(np.where(known, 0, scales), ids, complete)
    repeated = (ids[1:] == ids[:-1]) & (ids[1:] != _NOTHING)
    if repeated.any():
        for term, again in enumerate(repeated, start=1):
            scales[term, again] += scales[term - 1, again]
            complete[term, again] |= complete[term - 1, again]
            scales[term - 1, again] = 0
        ids, scales, complete = _sorted(scales, ids, complete)
    there = ids != _NOTHING
    count = there.sum(axis=0)
    shares, factors = normalised(np.concatenate([scales, constant[None]]).T, leading=len(scales))
    found = _sums(likeness, np.where(there, ids, -1).T, shares, sizes)
    alone = (count == 1) & (constant == 0) & complete[0]
    found = np.where(count == 0, ONE, np.where(alone, ids[0], found))
    return found, np.where(count == 0, constant, np.where(alone, scales[0], factors))


def _shifted(
    likeness: Likeness, ids: Array, scales: Array, constant: Array, whole: bool, terms: int, sizes: Hashable
) -> tuple[Array, Array]:
    """Returns what `_sum` does of so many terms of which all but one are constant everywhere. Shapes: (n,)."""
    keys, shares = np.full((ids.size, terms), -1), np.zeros((ids.size, terms + 1))
    keys[:, 0], shares[:, 0], shares[:, -1] = ids, 1, constant / scales
    found = _sums(likeness, keys, shares, sizes)
    return (np.where(constant == 0, ids, found) if whole else found), scales


def _sums(likeness: Likeness, ids: Array, shares: Array, sizes: Hashable) -> Array:
    """Returns the ids of sums of terms, -1 for those that are not there, and a constant behind them.

    Shapes: (n, terms), (n, terms + 1) → (n,).
    """
    floor = np.array([0.0] * ids.shape[1] + [1.0])
    return likeness.numbering.number(("sum", sizes), ids, shares, floor)


def _sorted(scales: Array, ids: Array, whole: Array) -> tuple[Array, Array, Array]:
    """Returns ids, scales and what goes with them, terms in the order of their ids, those of scale 0 behind."""
    ids = np.where(scales == 0, _NOTHING, ids)
    # One order suits most positions: one operand is older than the other one.
    order = ids.min(axis=1, initial=_NOTHING).argsort(kind="stable")
    found = ids[order]
    if every(found[1:] >= found[:-1]):
        return found, scales[order], whole[order]
    places = ids.argsort(axis=0, kind="stable"), np.arange(ids.shape[1])
    return ids[places], scales[places], whole[places]


def _product(
    likeness: Likeness, ids: Array, scales: Array, whole: Sequence[bool], sizes: Hashable
) -> tuple[Array, Array]:
    """Returns ids and scales of products; a multiple of a whole factor is that factor. Shapes: (2, n) → (n,)."""
    keys = np.array([np.minimum(*ids), np.maximum(*ids)])
    found = likeness.numbering.number(("product", sizes), keys.T)
    for mine, other in ((0, 1), (1, 0)):
        if whole[mine]:
            found = np.where(ids[other] == ONE, ids[mine], found)
    return found, scales[0] * scales[1]


def _spans(name: str, y: str, trace: Trace) -> bool:
    """Tells whether an operand has the result's own shape, symbolic sizes included."""
    shapes, dynamic = trace.graph.shapes, trace.graph.dynamic
    return shapes[name] == shapes[y] and tuple(dynamic.get(name, ())) == tuple(dynamic.get(y, ()))


def _divides(name: str, ids: Array, scales: Array, trace: Trace) -> bool:
    """Tells whether a divisor is known numbers with a fraction: a division of integers is not linear."""
    value = trace.constant(name)
    return value is not None and value.dtype.kind == "f" and bool((ids == ONE).all() and scales.all())

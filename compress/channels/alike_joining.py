"""Likeness through operators that join or cut runs of positions along one axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.channels.alike import Likeness
from compress.channels.alike_cells import Cells
from compress.channels.factors import coverage
from compress.channels.frozen import frozen
from compress.channels.graph import Array, Node
from compress.channels.multiples import normalised
from compress.channels.numbering import ONE

Piece = tuple[str | None, Array, float]  # source (None: new positions), positions of it, value of new positions


def joined(node: Node, name: str, axis: int, pieces: Sequence[Piece], likeness: Likeness, *, homogeneous: bool) -> None:
    """Sets the cells of an output that is a row of pieces along `axis`.

    Args:
        node: the operation.
        name: the output.
        axis: along which the pieces lie.
        pieces: in their order.
        likeness: what is known so far; the result goes there.
        homogeneous: whether multiples of the input give multiples of the output where other axes are cut or grown.
    """
    graph = likeness.trace.graph
    shape = graph.shapes[name]
    sources = [source for source, _, _ in pieces if source is not None]
    covered = {a for source in sources for a in likeness.covered(source)}
    resized = {a for source in sources for a, n in enumerate(graph.shapes[source]) if a != axis and n != shape[a]}
    labelled = {a for factor in likeness.trace.labels.of(name) for a in coverage(factor)}
    apart = axis in covered or (axis in labelled and len(pieces) > 1)
    dynamic = any(graph.is_dynamic(tensor, axis) for tensor in (*sources, name))
    if covered & resized or (apart and dynamic):
        likeness.fresh(name)
        return
    axes = sorted(covered - {axis})
    parts = [_cells(source, axes, axis if apart else None, len(shape), fill, likeness) for source, _, fill in pieces]
    beside = np.broadcast_shapes(*(_without(part, axis) for part in parts))
    if not apart:
        likeness.set(name, _open(node, name, axis, pieces, parts, beside, likeness, homogeneous=homogeneous))
        return
    taken = []
    for part, (source, positions, _) in zip(parts, pieces, strict=True):
        size = len(positions) if source is None else graph.shapes[source][axis]
        whole = part.broadcast((*beside[:axis], size, *beside[axis + 1 :]))
        picked = np.arange(size) if source is None else positions
        taken.append(Cells(whole.ids.take(picked, axis=axis), whole.scales.take(picked, axis=axis)))
    cells = Cells(*(np.concatenate([getattr(t, part) for t in taken], axis=axis) for part in ("ids", "scales")))
    if resized:
        signature = likeness.signature(node, cells, node.inputs[1:])
        cells = likeness.applied(signature, cells, linear=homogeneous)
    likeness.set(name, cells)


def _cells(
    source: str | None, axes: Sequence[int], axis: int | None, rank: int, fill: float, likeness: Likeness
) -> Cells:
    if source is None:
        return Cells(np.full((1,) * rank, ONE), np.full((1,) * rank, float(fill)))
    return likeness.operand(source, sorted({*axes, *([] if axis is None else [axis])}), rank)


def _without(part: Cells, axis: int) -> tuple[int, ...]:
    return tuple(1 if a == axis else size for a, size in enumerate(part.ids.shape))


def _open(
    node: Node,
    name: str,
    axis: int,
    pieces: Sequence[Piece],
    parts: Sequence[Cells],
    beside: tuple[int, ...],
    likeness: Likeness,
    *,
    homogeneous: bool,
) -> Cells:
    """Joins along an axis that stays open: each result is a function of the functions that are joined."""
    flat = [part.broadcast(beside) for part in parts]
    ids = np.stack([part.ids.reshape(-1) for part in flat], axis=1)
    rows = np.stack([part.scales.reshape(-1) for part in flat], axis=1)
    shares, scales = normalised(rows) if homogeneous else (rows, np.ones(len(rows)))
    picked = tuple((frozen(positions), fill) for _, positions, fill in pieces)
    shapes = tuple(likeness.trace.graph.shapes[n] for n in (*filter(None, (p[0] for p in pieces)), name))
    # A constant does not know how far it reaches along the axis: then the result is like no other of another node.
    named = (node.name, name) if (ids == ONE).any() else ()
    signature = ("joined", axis, picked, shapes, likeness.signature(node, None, node.inputs[1:]), named)
    return Cells(likeness.numbering.number(signature, ids, shares).reshape(beside), scales.reshape(beside))

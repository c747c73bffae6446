"""Operands that are combined position by position: what their labels say of each other, and of the result."""

from __future__ import annotations

from itertools import permutations

from compress.channels.factors import Factors, coverage, covered, longer_set, padded_shape
from compress.channels.graph import Array, Node, Shape
from compress.channels.labels import Labels


def unify_elementwise(labels: Labels, names: list[str], rank: int, node: Node) -> Factors:
    """Ties the operands of a broadcasting operator; returns the factors of its result of `rank` axes."""
    return unify_operands(labels, [(labels.of(name), labels.graph.shapes[name]) for name in names], rank, node)


def unify_operands(labels: Labels, operands: list[tuple[Factors, Shape]], rank: int, node: Node) -> Factors:
    """Ties tensors, given as (factors, shape), that are combined position by position after broadcasting."""
    if not any(factors for factors, _ in operands):
        return ()
    told_apart = [longer_set(padded_shape(shape, rank)) for _, shape in operands]
    padded = [[_padded(factor, rank) for factor in factors] for factors, _ in operands]
    for (i, mine), (j, theirs) in permutations(enumerate(padded), 2):
        for factor, axes in mine:
            shared = axes & told_apart[j]
            covering = [(other, its) for other, its in theirs if not shared.isdisjoint(its)]
            bare = shared.difference(*[its for _, its in covering])
            if bare:
                labels.hold(factor, tuple(bare), node, "combined with a tensor whose channels cannot go")
            for other, _ in covering if i < j else ():
                _tie(labels, factor, other, node)
    return _largest(padded)


def _padded(factor: Array, rank: int) -> tuple[Array, frozenset[int]]:
    """Returns a factor of a tensor that is broadcast to `rank` axes, and those that it covers then."""
    found = factor if factor.ndim == rank else factor.reshape(padded_shape(factor.shape, rank))
    return found, covered(found)


def _tie(labels: Labels, first: Array, second: Array, node: Node) -> None:
    """Ties two factors that are combined: cell by cell, or slice by slice where one covers a single axis."""
    wide, narrow = (second, first) if len(coverage(first)) < len(coverage(second)) else (first, second)
    if len(coverage(narrow)) == 1 < len(coverage(wide)):
        labels.tie_slices(wide, coverage(narrow)[0], narrow.reshape(-1), node)
    else:
        labels.unify(first, second, node)


def _largest(operands: list[list[tuple[Array, frozenset[int]]]]) -> Factors:
    """Drops factors that cover no more axes than one of another operand: they have been unified with it."""
    found = [(index, factor, axes) for index, factors in enumerate(operands) for factor, axes in factors if axes]
    kept: list[tuple[int, Array, frozenset[int]]] = []
    for index, factor, axes in sorted(found, key=lambda one: -len(one[2])):
        if not any(index != other and axes <= larger for other, _, larger in kept):
            kept.append((index, factor, axes))
    return tuple([factor for _, factor, _ in kept])

"""Whether a glance shows that no two channels can be multiples of one another: then likeness need not be found.

Follow the first two channels that are. What makes a channel from one channel, each by itself, or from one of each of
several tensors that have none in common, makes no two alike of channels that are not. A row of a weight makes one that
is like another's only if the rows are multiples. So it is enough that no two rows are, that no two nodes do the same to
the same channels, and that nothing else takes part.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from compress.channels.factors import every, some
from compress.channels.graph import Array, Node
from compress.channels.rows import direction, glanced
from compress.channels.trace import Trace

_COMPARED = 1 << 18  # pairs of rows, of which one is so small that some of its entries nearly count as zero


def all_apart(trace: Trace, nodes: Iterable[Node], tolerance: float) -> bool:
    """Tells whether surely no two channels that some nodes make are multiples of one another.

    Args:
        trace: what is known of the graph.
        nodes: those that lead to the channels in question, in order.
        tolerance: how far rows may be from multiples and count as such; see `Likeness`.
    """
    seen = _Seen(trace)
    return all(seen.apart(node) for node in nodes) and seen.rows_apart(tolerance)


class _Seen:
    """What has been seen of a graph.

    Args:
        trace: what is known of it.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        # By tensor: those that weights or sums made, of whose channels it holds functions, each by itself.
        self._roots: dict[str, frozenset[str]] = {}
        self._combined: set[frozenset[str]] = set()
        self._rows: dict[int, list[tuple[Array, float]]] = {}

    def apart(self, node: Node) -> bool:
        """Looks at the next node; tells whether channels that it makes are apart if what it reads are."""
        trace, y = self._trace, node.outputs[0]
        if not any(map(self._is_real, node.outputs)):
            # Sizes and indices are no channels; what picks by them says so itself.
            return True
        way = trace.rule(node).glance(node, trace)
        if way is None or any(name in trace.values for name in node.outputs):
            # What is known in part is like everything else that is.
            return False
        varying = [name for name in node.inputs if self._is_real(name) and trace.constant(name) is None]
        roots = [self._roots.get(name, frozenset([name])) for name in varying]
        root = frozenset().union(*roots)
        if len(root) < sum(map(len, roots)):
            return False
        shapes = trace.graph.shapes
        if not isinstance(way, str):
            self._rows.setdefault(way.shape[1], []).append((way, trace.limit(trace.values[node.inputs[1]])))
        elif way == "combines" and np.broadcast_shapes(*(shapes[name] for name in varying)) != shapes[y]:
            return False
        elif way == "moves" or len(varying) == 1:
            self._roots |= {name: root for name in node.outputs if name}
        else:
            again = root in self._combined
            self._combined.add(root)
            return not again
        return True

    def _is_real(self, name: str) -> bool:
        """Tells whether a tensor may hold numbers that are no integers."""
        return bool(name) and not self._trace.graph.counts(name)

    def rows_apart(self, tolerance: float) -> bool:
        """Tells whether no two rows of all weights that have been seen are multiples of one another."""
        return all(_no_multiples(parts, tolerance) for parts in self._rows.values())


def _no_multiples(parts: list[tuple[Array, float]], tolerance: float) -> bool:
    """Tells whether surely no two rows are multiples, given them and up to where their entries count as zero."""
    few = glanced(parts[0][0].shape[1])
    largest = np.concatenate([np.maximum(rows.max(axis=1), -rows.min(axis=1)) for rows, _ in parts])
    limits = np.concatenate([np.full(len(rows), limit) for rows, limit in parts])
    if not every(largest > limits) or not every(np.isfinite(largest)):
        return False
    glances = np.concatenate([rows[:, few] for rows, _ in parts]) / largest[:, None]
    width = glances.shape[1]
    # The sign of a multiple is open, so projections are compared by their magnitudes.
    first, second = np.abs(glances @ direction(2 * width).reshape(2, width).T).T
    usual, apart = 3 * width * tolerance, width * (tolerance + 2 * limits / largest)
    odd = np.flatnonzero(apart > usual)
    if odd.size * len(apart) > _COMPARED:
        return False
    if odd.size:
        one, other = np.nonzero(np.abs(first[odd, None] - first) <= apart[odd, None])
        if np.count_nonzero(np.abs(second[odd[one]] - second[other]) <= apart[odd[one]]) > odd.size:
            return False
        first, second = first[apart <= usual], second[apart <= usual]
    # Rows that meet in both projections stand side by side once they are sorted by one, and by the other within a run.
    order = first.argsort()
    close = np.diff(first[order]) <= usual
    if not some(close):
        return True
    run = np.concatenate([[0], np.cumsum(~close)])
    second = second[order]
    order = np.lexsort((second, run))
    return not some((np.diff(run[order]) == 0) & (np.diff(second[order]) <= usual))

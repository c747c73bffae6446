"""Why a channel that nothing needs, or whose value is known, could not go."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from compress.channels.factors import STAYS
from compress.channels.graph import Array, Node
from compress.channels.kept import Kept
from compress.channels.rules.base import pads
from compress.channels.sweep import over, sweep
from compress.channels.trace import Trace
from compress.rewrite.weighted import weighted

_ALONE = "a tensor keeps at least one channel"
_TIED = "they go only together with channels that are needed"
_SAME_LAYER = "they go only together with others of their layer, which are needed"
_SHOWN = "zero padding shows their value, for which no bias can stand"
_READ = "they are read where no bias can stand for their value"


@dataclass(frozen=True)
class Blocked:
    """Channels that hold nothing, or that nothing needs, and stay.

    Attributes:
        tensor: where they are.
        node: the node that keeps them.
        op: the operator that produces them.
        reason: why they stay.
        channels: how many.
        kind: ``idle``, or ``duplicate``: multiples of other channels.
    """

    tensor: str
    node: str
    op: str
    reason: str
    channels: int
    kind: str = "idle"


def blocked_channels(trace: Trace) -> list[Blocked]:
    """Returns the constant and the unread channels behind weights that remain, with what keeps them."""
    kept = sweep(trace)
    idle = ((one, channels) for one in weighted(trace) if (channels := one.idle(trace)).any())
    staying = [(one, stuck) for one, channels in idle if (stuck := channels & one.stays(kept)).any()]
    if not staying:
        return []
    because, found = Reasons(trace, kept), []
    for one, stuck in staying:
        counts = Counter(because.of(int(atom), one.node) for atom in one.atoms[stuck])
        found += [
            Blocked(one.output, keeper, one.node.operator, reason, count) for (keeper, reason), count in counts.items()
        ]
    return found


class Reasons:
    """What keeps each class of atoms: a node, and a reason."""

    def __init__(self, trace: Trace, kept: Kept) -> None:
        self._classes = trace.labels.classes()
        self._nodes = trace.graph.nodes
        self._needed = _producers(trace, self._classes)
        self._read = _readers(trace, self._classes)
        # The place in `_known` of what keeps each class; -1: neither a pin nor something restored.
        self._place = np.full(self._classes.size, -1)
        self._known: list[tuple[str, str]] = []
        touching = ((index, name) for index, node in enumerate(self._nodes) for name in (*node.inputs, *node.outputs))
        first = {name: index for index, name in reversed(list(touching)) if name}
        # Of several tensors that hold what came back, the first in the graph is named; last is what no node touches.
        for one in sorted(kept.restored, key=lambda one: -first.get(one.tensor, len(self._nodes))):
            self._know(one.atoms, self._nodes[first[one.tensor]].name if one.tensor in first else "", one.reason)
        for pin in reversed(trace.labels.pins):
            self._know(pin.atoms, pin.node, pin.reason)

    def of(self, atom: int, node: Node) -> tuple[str, str]:
        """Returns the node that keeps an atom which `node` produces, and the reason."""
        unit = int(self._classes[atom])
        if unit == STAYS:
            return node.name, _ALONE
        anyway = self.anyway(unit)
        if anyway is not None:
            return anyway[0] or node.name, anyway[1]
        if self._needed[unit] >= 0:
            other = self._nodes[self._needed[unit]]
            return other.name, _SAME_LAYER if other is node else _TIED
        if self._read[unit] >= 0:
            reader = self._nodes[self._read[unit]]
            return reader.name, _SHOWN if pads(reader) else _READ
        return node.name, _TIED

    def anyway(self, unit: int) -> tuple[str, str] | None:
        """Returns what keeps a class whatever is read of it: a node, ``""`` if none is to blame, and the reason."""
        return self._known[int(self._place[unit])] if self._place[unit] >= 0 else None

    def _know(self, atoms: Array, node: str, reason: str) -> None:
        self._place[self._classes[atoms]] = len(self._known)
        self._known.append((node, reason))


def _producers(trace: Trace, classes: Array) -> Array:
    """Returns for each class the first node that must compute a channel of it, -1 for none."""
    found = np.full(classes.size, -1)
    for index, node in reversed(list(enumerate(trace.graph.nodes))):
        for name in (output for output in node.outputs if output in trace.graph.shapes):
            cells = trace.demand(name)
            for factor in trace.labels.of(name) if cells.any() else ():
                found[classes[factor[over(cells, factor)]]] = index
    return found


def _readers(trace: Trace, classes: Array) -> Array:
    """Returns for each class the first node that needs a channel of it though its value is known, -1 for none."""
    found = np.full(classes.size, -1)
    position = {id(node): index for index, node in enumerate(trace.graph.nodes)}
    for name, readers in trace.readers.items():
        for reader, cells in readers if name in trace.graph.shapes else ():
            shown = cells & ~trace.varies(name)
            for factor in trace.labels.of(name) if shown.any() else ():
                units = classes[factor[over(shown, factor)]]
                earlier = (found[units] < 0) | (found[units] > position[id(reader)])
                found[units[earlier]] = position[id(reader)]
    return found

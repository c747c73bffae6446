"""Why a channel that holds nothing could not go."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from compress.channels.cells import only_axis
from compress.channels.labels import STAYS
from compress.channels.sweep import sweep
from compress.channels.trace import Trace

_NEEDED = ("", "added to channels that are needed, or read where padding shows it")
_ALONE = ("", "a tensor keeps at least one channel")


@dataclass(frozen=True)
class Blocked:
    """Channels that hold a constant and stay.

    Attributes:
        tensor: where they are.
        node: the node that keeps them.
        op: the operator that produces them.
        reason: why they stay.
        channels: how many.
    """

    tensor: str
    node: str
    op: str
    reason: str
    channels: int


def blocked_channels(trace: Trace) -> list[Blocked]:
    """Returns the constant channels that remain behind weights, with the reason for each."""
    kept = sweep(trace)
    classes = trace.labels.classes()
    keepers = [_NEEDED, _ALONE]
    # The place in `keepers` of what keeps each class.
    kept_by = np.zeros(trace.labels.atom_count, dtype=np.int64)
    kept_by[STAYS] = 1
    for atoms, keeper in [
        *((atoms, ("", reason)) for atoms, reason in kept.restored),
        *((pin.atoms, (pin.node, pin.reason)) for pin in reversed(trace.labels.pins)),
    ]:
        kept_by[classes[atoms]] = len(keepers)
        keepers.append(keeper)
    found: list[Blocked] = []
    producing = trace.labels.producing_axes()
    for node in trace.graph.nodes:
        weight = node.input(1)
        if weight not in producing or not node.outputs or node.outputs[0] not in trace.values:
            continue
        output = node.outputs[0]
        axis = 1 if node.operator.startswith("Conv") else len(trace.graph.shapes[output]) - 1
        size = trace.graph.shapes[output][axis]
        idle = ~only_axis(trace.varies(output), axis, size) & kept.mask(output, axis)
        atoms = trace.labels.axis(weight, producing[weight], node)[: idle.size]
        counts = Counter(keepers[place] for place in kept_by[classes[atoms[idle]]])
        for (keeping, reason), count in counts.items():
            found.append(Blocked(output, keeping, node.operator, reason, count))
    return found

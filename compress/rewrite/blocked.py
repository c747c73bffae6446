"""Why a channel that holds nothing could not go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.channels.cells import only_axis
from compress.channels.graph import Array
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
    pinned: dict[int, tuple[str, str]] = {}
    for atoms, reason in kept.restored:
        pinned |= {int(unit): ("", reason) for unit in classes[atoms]}
    for pin in reversed(trace.labels.pins):
        for atom in pin.atoms:
            pinned[int(classes[atom])] = (pin.node, pin.reason)
    found: list[Blocked] = []
    for node in trace.graph.nodes:
        weight = node.input(1)
        rows = [axis for (name, axis), role in trace.labels.roles.items() if name == weight and role == "out"]
        if not rows or not node.outputs or node.outputs[0] not in trace.values:
            continue
        output = node.outputs[0]
        axis = 1 if node.operator.startswith("Conv") else len(trace.graph.shapes[output]) - 1
        size = trace.graph.shapes[output][axis]
        idle = ~only_axis(trace.varies(output), axis, size) & kept.mask(output, axis)
        atoms = trace.labels.axis(weight, rows[0], node)[: idle.size]
        for (keeper, reason), count in _reasons(classes[atoms[idle]], pinned).items():
            found.append(Blocked(output, keeper, node.operator, reason, count))
    return found


def _reasons(idle: Array, pinned: dict[int, tuple[str, str]]) -> dict[tuple[str, str], int]:
    counts: dict[tuple[str, str], int] = {}
    for unit in np.asarray(idle):
        reason = pinned.get(int(unit), _ALONE if unit == STAYS else _NEEDED)
        counts[reason] = counts.get(reason, 0) + 1
    return counts

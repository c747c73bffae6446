"""What a choice of channels costs: parameters and multiply-accumulates, read off the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.channels.graph import Array
from compress.channels.groups import Groups


@dataclass(frozen=True)
class Cost:
    """The cost of one example.

    Attributes:
        parameters: learnt numbers (running statistics of normalisation included: they are stored as well).
        macs: multiply-accumulates of convolutions and matrix products with weights.
    """

    parameters: int
    macs: int


class CostModel:
    """Costs as a function of the units that remain.

    Each parameter's size is the product of what remains of its axes; each weight is used a fixed number of times.
    """

    def __init__(self, groups: Groups) -> None:
        trace = groups.trace
        self._terms: list[tuple[int, int, list[Array]]] = []
        position: dict[tuple[str, int], Array] = {}
        for family, start in zip(groups.groups, groups.offsets[:-1], strict=True):
            for member in family.members:
                axis = position.setdefault((member.parameter, member.axis), np.full(member.unit.size, -1))
                axis[member.unit >= 0] = member.unit[member.unit >= 0] + start
        for name in groups.parameters:
            shape = trace.graph.shapes[name]
            axes = [position[(name, axis)] for axis in range(len(shape)) if (name, axis) in position]
            fixed = int(np.prod([size for axis, size in enumerate(shape) if (name, axis) not in position]))
            self._terms.append((fixed, trace.labels.reuse.get(name, 0), axes))
        self._units = groups.size

    def __call__(self, keep: Array) -> Cost:
        """Returns the cost if the units marked in `keep` remain. Shape: (units,), booleans."""
        present = np.append(keep, True)  # position -1: always there
        parameters = macs = 0
        for fixed, reuse, axes in self._terms:
            size = fixed * int(np.prod([present[axis].sum() for axis in axes]))
            parameters += size
            macs += size * reuse
        return Cost(parameters, macs)

    def everything(self) -> Cost:
        """Returns the cost before anything goes."""
        return self(np.ones(self._units, dtype=bool))

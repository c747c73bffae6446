"""What operators have said of tensors that are computed from stored weights, said of the weights."""

from __future__ import annotations

import math

import numpy as np

from compress.channels.factors import STAYS, coverage
from compress.channels.labels import Labels


def hand_back(labels: Labels) -> None:
    """Says of stored weights what operators have said of tensors computed from them: transposed, sliced, cast."""
    computed = dict.fromkeys(name for name, _ in labels.roles if name not in labels.graph.constants)
    if not computed:
        return
    # Every axis of a constant has atoms of its own.
    axes = [(n, coverage(f)[0], f) for n in labels.graph.constants for f in labels.of(n) if len(coverage(f)) == 1]
    owner = np.full(labels.atom_count, -1)
    for index, (_, _, factor) in enumerate(axes):
        owner[factor.reshape(-1)] = index
    owner[STAYS] = -1
    for name in computed:
        stored: dict[str, None] = {}
        for factor in labels.of(name):
            role = labels.roles.get((name, coverage(factor)[0])) if len(coverage(factor)) == 1 else None
            for index in np.unique(owner[factor.reshape(-1)]):
                source, own, _ = axes[index]
                if index >= 0 and role is not None:
                    labels.roles.setdefault((source, own), role)
                if index >= 0:
                    stored[source] = None
        for source in stored if name in labels.reuse else ():
            share = math.prod(labels.graph.shapes[name]) / max(1, math.prod(labels.graph.shapes[source]))
            labels.reuse[source] = labels.reuse.get(source, 0) + round(labels.reuse[name] * min(1.0, share))

"""What of the kernels of convolutions holds nothing, and what a rewrite makes of that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from compress.channels.kept import Kept
from compress.channels.trace import Trace
from compress.recipe import RewriteSettings
from compress.rewrite.kernel_plans import cheapest, smaller, tolls_of
from compress.rewrite.kernels import Convolved, convolutions

_NEVER = "not split: stripes = never"
_DEAR = "not split: to put the parts together takes more than they save"
_GROUPED = "not split: it has groups"


def kernels_of(known: Trace, kept: Kept, settings: RewriteSettings) -> dict[str, dict[str, Any]]:
    """Returns positions, stripes and columns that hold nothing, and what becomes of them, by the layer's output.

    Args:
        known: what is known of the graph.
        kept: the channels that stay; the others do not count.
        settings: whether kernels are split.
    """
    found = {}
    for one in convolutions(known):
        rows, columns = (kept.mask(one.node.input(1), axis) for axis in (0, 1))
        weight, nonzero = (array[rows][:, columns] for array in (one.weight, one.nonzero))
        facts = _facts(replace(one, weight=weight, nonzero=nonzero), settings) if nonzero.any() else None
        if facts is not None:
            found[one.node.outputs[0]] = facts
    return found


def _facts(one: Convolved, settings: RewriteSettings) -> dict[str, Any] | None:
    used = one.nonzero.reshape(*one.weight.shape[:2], -1)
    positions = np.asarray(used.any(axis=(0, 1)))
    used = used[:, :, positions]
    stripes, columns = (~np.asarray(used.any(axis=axis)) for axis in (1, 0))
    counts = {
        "positions": (int((~positions).sum()), positions.size),
        "stripes": (int(stripes.sum()), stripes.size),
        "columns": (int(columns.sum()), columns.size),
    }
    said = [
        f"{idle} of {size} {'positions of its kernel' if name == 'positions' else name}"
        for name, (idle, size) in counts.items()
        if idle
    ]
    if not said:
        return None
    fates = [_grid(one)] if counts["positions"][0] else []
    fates += [_fate(one, settings)] if stripes.any() or columns.any() else []
    kernel = f"{' and '.join(said)} hold nothing: {'; '.join(fates)}"
    return {name: idle for name, (idle, _) in counts.items()} | {"kernel": kernel}


def _grid(one: Convolved) -> str:
    kernel, _ = smaller(one)
    if kernel.size == one.kernel.size:
        return "no smaller grid without padding below zero holds the others"
    return f"a kernel of {'×'.join(str(span.size) for span in kernel.spans)} holds the others"


def _fate(one: Convolved, settings: RewriteSettings) -> str:
    tolls = tolls_of(settings)
    if tolls is None:
        return _NEVER
    if one.kernel.groups > 1:
        return _GROUPED
    kernel, places = smaller(one)
    within = (slice(None), slice(None), *places)
    plan = cheapest(replace(one, kernel=kernel, weight=one.weight[within], nonzero=one.nonzero[within]), tolls)
    return _DEAR if plan is None else f"computed as {plan}"

"""Weights refitted to what a layer reads, when some of its inputs go.

With rows x of a layer's inputs and y = W x, all that least squares asks of the data are E[x xᵀ] and E[x yᵀ].
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from compress.channels.graph import Array
from compress.prune.masks import ChannelMask
from compress.prune.problem import PruningProblem, places
from compress.prune.readings import Layer, call_order, column_units, layer_of, read


@dataclass(frozen=True)
class Moments:
    """Second moments of what a layer reads, means over samples and positions.

    Attributes:
        gram: E[x xᵀ] of what it reads now. Shape: [g, D, D], float64.
        cross: E[x yᵀ] with what it computes in the whole network, bias not counted. Shape: [g, D, O/g].
    """

    gram: Array
    cross: Array


Solve = Callable[[Moments, Array, Array, Array], Array]


def moments(
    problem: PruningProblem, layer: Layer, *, cut: nn.Module | None = None, positions: int | None = None
) -> Moments:
    """Returns the second moments of what a layer reads.

    Args:
        problem: with samples.
        layer: of the problem's network.
        cut: the network as it is now, whose inputs count; outputs are always those of the problem's network.
        positions: drawn from each image; default: all.

    Raises:
        DataError: if there are no samples.
    """
    draw = np.random.default_rng(problem.seed)
    weight = torch.from_numpy(layer.rows(problem.array(layer.parameter)))  # [g, O/g, D]
    size = weight.shape[2]
    gram = torch.zeros(layer.groups, size, size, dtype=torch.float64)
    cross = torch.zeros(layer.groups, size, weight.shape[1], dtype=torch.float64)
    count = 0
    wholes = read(problem, layer)
    nows = wholes if cut is None else read(problem, layer, cut)
    for whole in wholes:
        now = whole if cut is None else next(nows)
        for before, after in zip(whole, now, strict=True):
            n, p = before.shape[:2]
            chosen = draw.random((n, p)).argsort(axis=1)[:, :positions]
            index = (torch.arange(n)[:, None], torch.from_numpy(chosen))
            # Rows of all images, group by group: [g, R, D].
            then, x = (t.cpu()[index].flatten(0, 1).movedim(1, 0).double() for t in (before, after))
            gram += x.mT @ x
            cross += x.mT @ (then @ weight.mT)
            count += x.shape[1]
    return Moments((gram / max(count, 1)).numpy(), (cross / max(count, 1)).numpy())


def damped(gram: Array, share: float) -> Array:
    """Returns gram + λI, λ = `share` of the mean of its diagonal: it can be inverted whatever the inputs are."""
    size = gram.shape[-1]
    scale = np.trace(gram, axis1=-2, axis2=-1) / size
    ridge = np.maximum(share * scale, np.finfo(np.float64).tiny ** 0.5)
    found: Array = gram + ridge[..., None, None] * np.eye(size)
    return found


def unit_gram(gram: Array, rows: Array, unit: Array, size: int) -> Array:
    """Returns Σ_o E[z_oc z_oc'], z_oc what unit c contributes to output o; the last row and column are of no unit.

    Args:
        gram: [g, D, D].
        rows: weight, [g, O/g, D].
        unit: of each column, -1: of none. Shape: (D,).
        size: number of units.

    Returns:
        [size + 1, size + 1].
    """
    products = ((rows.swapaxes(1, 2) @ rows) * gram).sum(axis=0)
    member = np.eye(size + 1)[unit]
    found: Array = member.T @ products @ member
    return found


def rebuild(problem: PruningProblem, keep: Array, solve: Solve, positions: int | None = None) -> dict[str, Array]:
    """Refits each layer that loses inputs, in the order in which the network calls them.

    A layer is fitted to what the whole network's layer computes, from what it reads once the layers before it have
    been cut and refitted: it makes up for their errors too.

    Args:
        problem: with samples.
        keep: which units remain, over all groups in turn. Shape: (units,), booleans.
        solve: from the moments, the weight [g, O/g, D], which columns remain (booleans), and the unit of each column
            over all groups in turn (-1: of none) to the new weight [g, O/g, D].
        positions: drawn from each image; default: all.

    Returns:
        New weights by name.
    """
    cut = copy.deepcopy(problem.network)
    mask = ChannelMask(problem.groups, keep)
    mask.apply(cut)
    present = np.append(keep, True)
    losing: dict[int, tuple[Layer, Array]] = {}
    for place in places(problem.groups):
        if place.role == "in" and not present[place.unit].all():
            # Names of one weight are one layer.
            tensor = problem.tensor(place.parameter)
            unit = column_units(problem, place.parameter, place.unit)
            losing.setdefault(id(tensor), (layer_of(problem, place.parameter), unit))
    values = {}
    for layer, unit in _in_order(problem, list(losing.values())):
        whole = problem.array(layer.parameter)
        found = solve(
            moments(problem, layer, cut=cut, positions=positions), layer.rows(whole), present[unit], unit
        ).reshape(whole.shape)
        with torch.no_grad():
            cut.get_parameter(layer.parameter).copy_(torch.from_numpy(found))
        mask.apply(cut)
        values[layer.parameter] = found
    return values


def _in_order(problem: PruningProblem, layers: list[tuple[Layer, Array]]) -> list[tuple[Layer, Array]]:
    called = call_order(problem)
    return sorted(layers, key=lambda entry: min(called.index(path) for path in entry[0].modules))

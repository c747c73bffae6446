"""Convolutions whose kernels hold zeros, as sums of smaller ones: which there are, and what each costs.

A convolution is Σ_p W[:, :, p] · shift_p(x), over the positions p of its kernel. A *stripe* W[o, :, p] of zeros, and a
*column* W[:, i, p] of zeros, need not be computed. Shifting is a depthwise convolution with one 1 in each kernel, a
*pick*, and picks commute with 1×1 convolutions:

- *ranked filters*: rank r takes the r-th stripe of each filter: y = Σ_r pick_r(W_r · x). Filters may be parted by how
  many stripes they have; each part is then ranked, or a dense convolution with a smaller kernel.
- *stripes*: all stripes at once, added up by a matrix S of ones: y = S · pick(W · x).
- *ranked inputs*: rank r takes the r-th column of each input: y = Σ_r W_r · pick_r(x).
- *columns*: all columns at once: y = W · pick(x[indices]).

Source: F. Meng et al., "Pruning Filter in Filter", 2020, computes stripes as 1×1 convolutions whose results are added;
W. Wen et al., "Learning Structured Sparsity in Deep Neural Networks", 2016, leaves out columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from compress.channels.graph import Array
from compress.recipe import RewriteSettings
from compress.rewrite.kernels import Convolved, Kernel

# A runtime's fast kernels take channels by the block; an odd count falls off them (see benchmarks/stripes).
BLOCK = 4
_MOST_BOUNDARIES = 48
# A node of a file: its name, its output, its operands and the names of its constants begin with the layer's output.
_NODE_BYTES, _NAMES = 80, 8


@dataclass(frozen=True)
class Cost:
    """What an example costs.

    Attributes:
        macs: multiply-accumulates.
        moved: elements that are written by operators that move or pick, not by convolutions that mix channels.
        nodes: operators.
        weights: entries that are stored.
    """

    macs: float
    moved: float
    nodes: int
    weights: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, name) + getattr(other, name) for name in ("macs", "moved", "nodes", "weights")))


@dataclass(frozen=True)
class Tolls:
    """What is charged beside multiply-accumulates, in multiply-accumulates.

    Attributes:
        moved: for each element that is moved.
        node: for each operator.
        share: of the cost before that a plan may have.
        axes: how many spatial axes it takes; 0: any number.
        rests: whether stripes or columns that fill no whole block may be computed beside the others.
    """

    moved: float
    node: float
    share: float = 1.0
    axes: int = 0
    rests: bool = True

    def of(self, cost: Cost) -> float:
        """Returns the charge for a cost."""
        return cost.macs + self.moved * cost.moved + self.node * cost.nodes


# Measured by benchmarks/stripes: what ONNX Runtime's CPU kernels make of picks and joins beside convolutions.
MEASURED = Tolls(moved=25, node=120_000, share=0.9, axes=2)
MEASURED_INT8 = Tolls(moved=250, node=80_000, share=0.9, axes=2, rests=False)
# Fewer multiply-accumulates, whatever they take; a node counts as little as decides between plans that are alike.
WHATEVER = Tolls(moved=0, node=1)


def tolls_of(settings: RewriteSettings) -> Tolls | None:
    """Returns what settings charge; None if nothing is to be split."""
    return {"auto": MEASURED, "int8": MEASURED_INT8, "always": WHATEVER, "never": None}[settings.stripes]


@dataclass(frozen=True)
class Part:
    """Filters that are computed together.

    Attributes:
        filters: which.
        kernel: the smallest that holds all they use.
        places: which positions of the whole kernel it has.
        ranks: for each rank and filter, the position in `kernel`, −1: none. Shape: (ranks, filters). None: dense.
    """

    filters: Array
    kernel: Kernel
    places: tuple[slice, ...]
    ranks: Array | None


@dataclass(frozen=True)
class ByFilters:
    """Parts of the filters, each by itself; their results are joined."""

    parts: tuple[Part, ...]
    cost: Cost

    @property
    def order(self) -> Array:
        """Where the result of each filter stands among those of all parts."""
        return np.argsort(np.concatenate([part.filters for part in self.parts]))

    def __str__(self) -> str:
        dense = sum(part.ranks is None for part in self.parts)
        ranks = sum(len(part.ranks) for part in self.parts if part.ranks is not None)
        return f"{dense + ranks} convolutions over parts of the filters" if dense else f"{ranks} ranks of stripes"


@dataclass(frozen=True)
class RankedInputs:
    """Ranks of columns. `ranks`: for each rank and input, the position in `kernel`, −1: none. Shape: (ranks, I)."""

    kernel: Kernel
    places: tuple[slice, ...]
    ranks: Array
    cost: Cost

    def __str__(self) -> str:
        return f"{len(self.ranks)} ranks of columns"


@dataclass(frozen=True)
class AtOnce:
    """All stripes or columns at once; as many as fill whole blocks, and the others beside them.

    Attributes:
        kernel: the smallest that holds all.
        places: which positions of the whole kernel it has.
        blocks: filters or inputs, and positions in `kernel`, for each block. Shape of each: (stripes or columns, 2).
    """

    kernel: Kernel
    places: tuple[slice, ...]
    blocks: tuple[Array, ...]
    cost: Cost


class Stripes(AtOnce):
    """All stripes at once."""

    def __str__(self) -> str:
        return f"{sum(map(len, self.blocks))} stripes"


class Columns(AtOnce):
    """All columns at once."""

    def __str__(self) -> str:
        return f"{sum(map(len, self.blocks))} columns"


Plan = ByFilters | RankedInputs | Stripes | Columns


def smaller(one: Convolved, *, cut: bool = True) -> tuple[Kernel, tuple[slice, ...]]:
    """Returns the kernel that holds all that is used, and which positions it has.

    Args:
        one: the convolution.
        cut: whether the input may be cut where padding would become negative, if that is worth it.
    """
    used = np.asarray(one.nonzero.any(axis=(0, 1)))
    if used.all():
        return one.kernel, tuple(slice(0, size) for size in used.shape)
    within, whole = one.kernel.only(used, cut=False), one.kernel.only(used)
    if not cut or whole[0].size == within[0].size:
        return within
    filters, inputs = one.weight.shape[:2]
    saved = (within[0].size - whole[0].size) * filters * inputs * math.prod(one.outputs)
    moved = inputs * one.kernel.groups * math.prod(one.inputs)
    return whole if MEASURED.moved * moved + MEASURED.node < saved else within


def cheapest(one: Convolved, tolls: Tolls) -> Plan | None:
    """Returns the cheapest plan that has fewer multiply-accumulates than the convolution and needs no more bytes."""
    if one.kernel.groups != 1 or one.weight.shape[0] == 0 or tolls.axes not in (0, len(one.outputs)):
        return None
    before = _dense(one, one.weight.shape[0], one.kernel.size)
    limit = tolls.share * tolls.of(before)
    node = (_NODE_BYTES + _NAMES * len(one.node.outputs[0])) / one.weight.itemsize
    found = [
        plan
        for plan in plans(one, tolls, limit)
        if plan.cost.macs < before.macs
        and plan.cost.weights + node * plan.cost.nodes <= before.weights
        and tolls.of(plan.cost) <= limit
        and (tolls.rests or not isinstance(plan, AtOnce) or len(plan.blocks) == 1)
    ]
    return min(found, key=lambda plan: tolls.of(plan.cost), default=None)


def plans(one: Convolved, tolls: Tolls, limit: float = math.inf) -> Iterator[Plan]:
    """Yields what a convolution without groups could be computed as; filters are parted as the tolls want it.

    Args:
        one: the convolution.
        tolls: what counts beside multiply-accumulates.
        limit: what is charged at most; plans that cost more may be left out.
    """
    filters, inputs = one.weight.shape[:2]
    before, after = math.prod(one.inputs), math.prod(one.outputs)
    nonzero = one.nonzero.reshape(filters, inputs, -1)
    stripes, columns = (np.asarray(nonzero.any(axis=axis)) for axis in (1, 0))
    # Whatever the plan, each stripe or column that holds anything is computed, by one node at least.
    by_filters = np.count_nonzero(stripes) * inputs * min(before, after)
    by_inputs = np.count_nonzero(columns) * filters * after
    if not stripes.all() and tolls.of(Cost(by_filters, 0, 1, 0)) <= limit:
        yield from _by_filters(one, stripes, tolls)
        yield _stripes(one, stripes)
    if not columns.all() and tolls.of(Cost(by_inputs, 0, 1, 0)) <= limit:
        yield from _by_inputs(one, columns)


def _by_filters(one: Convolved, stripes: Array, tolls: Tolls) -> Iterator[Plan]:
    """`stripes`: which filter uses which position. Shape: (O, positions)."""
    count = len(stripes)
    order = np.lexsort((*stripes.T[::-1], stripes.sum(axis=1)))
    step = BLOCK * max(1, -(-count // (BLOCK * _MOST_BOUNDARIES)))
    bounds = [*range(0, count, step), count]
    best: list[tuple[float, list[tuple[Part, Cost]]]] = [(0.0, [])]
    for stop in bounds[1:]:
        ways = []
        for index, start in enumerate(bounds[: len(best)]):
            for part, cost in _parts(one, np.sort(order[start:stop]), stripes):
                charge = best[index][0] + tolls.of(cost)
                ways.append((charge, [*best[index][1], (part, cost)]))
        best.append(min(ways, key=lambda way: way[0], default=(math.inf, [])))
    # All filters in one part need not be joined.
    options = [best[-1][1], *([option] for option in _parts(one, np.arange(count), stripes))]
    for option in options:
        if option:
            joined = _joined(one, tuple(part for part, _ in option))
            yield ByFilters(tuple(part for part, _ in option), sum((cost for _, cost in option), joined))


def _parts(one: Convolved, filters: Array, stripes: Array) -> Iterator[tuple[Part, Cost]]:
    mine = stripes[filters]
    if not mine.any():
        return
    kernel, places = _around(one.kernel, mine.any(axis=0).tobytes())
    yield Part(filters, kernel, places, None), _dense(one, len(filters), kernel.size)
    if filters.size % BLOCK:
        return
    ranks = _ranks(_placed(mine, one.kernel, places))
    inputs, total = one.weight.shape[1], len(ranks) * len(filters)
    macs = total * (inputs * math.prod(one.inputs) + kernel.size * math.prod(one.outputs))
    cost = Cost(macs, total * math.prod(one.outputs), 3 * len(ranks) - 1, total * (inputs + kernel.size))
    yield Part(filters, kernel, places, ranks), cost


@lru_cache(maxsize=256)
def _around(kernel: Kernel, used: bytes) -> tuple[Kernel, tuple[slice, ...]]:
    """Returns the smallest kernel around used positions, given as booleans: many filters use the same ones."""
    positions = np.frombuffer(used, bool).reshape([span.size for span in kernel.spans])
    return kernel.only(positions, cut=False)


def _joined(one: Convolved, parts: tuple[Part, ...]) -> Cost:
    if len(parts) == 1:
        return Cost(0, 0, 0, 0)
    count = one.weight.shape[0]
    return Cost(0, 2 * count * math.prod(one.outputs), 2, 2 * count)


def _by_inputs(one: Convolved, columns: Array) -> Iterator[Plan]:
    """`columns`: which input is read at which position. Shape: (I, positions)."""
    filters, inputs = one.weight.shape[:2]
    before, after = math.prod(one.inputs), math.prod(one.outputs)
    kernel, places = _around(one.kernel, columns.any(axis=0).tobytes())
    placed = _placed(columns, one.kernel, places)
    if inputs % BLOCK == 0:
        ranks = _ranks(placed)
        total = ranks.size
        cost = Cost(
            total * (kernel.size + filters) * after, total * after, 3 * len(ranks) - 1, total * (kernel.size + filters)
        )
        yield RankedInputs(kernel, places, ranks, cost)
    blocks = _blocks(placed)
    total = sum(map(len, blocks))
    yield Columns(kernel, places, blocks, Cost(
        total * (kernel.size + filters) * after,
        total * (before + after),
        4 * len(blocks) - 1,
        total * (kernel.size + filters) + 2 * total,
    ))  # fmt: skip


def _stripes(one: Convolved, stripes: Array) -> Plan:
    """`stripes`: which filter uses which position. Shape: (O, positions)."""
    filters, inputs = one.weight.shape[:2]
    before, after = math.prod(one.inputs), math.prod(one.outputs)
    kernel, places = _around(one.kernel, stripes.any(axis=0).tobytes())
    blocks = _blocks(_placed(stripes, one.kernel, places))
    total = sum(map(len, blocks))
    macs = total * (inputs * before + (kernel.size + filters) * after)
    return Stripes(
        kernel, places, blocks, Cost(macs, total * after, 4 * len(blocks) - 1, total * (inputs + kernel.size + filters))
    )


def _blocks(placed: Array) -> tuple[Array, ...]:
    """Returns the pairs (row, position) that are used: those that fill whole blocks, and the rest."""
    pairs = np.argwhere(placed)
    whole = len(pairs) - len(pairs) % BLOCK
    return tuple(block for block in (pairs[:whole], pairs[whole:]) if len(block))


def _dense(one: Convolved, filters: int, size: int) -> Cost:
    weights = filters * one.weight.shape[1] * size
    return Cost(weights * math.prod(one.outputs), 0, 1, weights)


def _placed(used: Array, kernel: Kernel, places: tuple[slice, ...]) -> Array:
    """Returns which positions of a smaller kernel are used. Shapes: (n, positions) → (n, its positions)."""
    whole = used.reshape(len(used), *(span.size for span in kernel.spans))
    return whole[(slice(None), *places)].reshape(len(used), -1)


def _ranks(used: Array) -> Array:
    """Returns the r-th used position of each row, −1 where there is none. Shapes: (n, positions) → (ranks, n)."""
    counts = used.sum(axis=1)
    ranks = np.full((int(counts.max()), len(used)), -1)
    rows, positions = np.nonzero(used)
    ranks[np.concatenate([np.arange(count) for count in counts]), rows] = positions
    return ranks

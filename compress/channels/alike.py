"""Likeness: which positions of which tensors hold the same function of the input, up to a factor.

The third abstract interpretation, forwards, beside values and needs, by value numbering. Each tensor has two cell
arrays of one shape: *ids* and *scales*. What an axis of size 1 leaves open is a variable of the function that the id
names; positions p and q of one id hold values whose ratio is scale[q] / scale[p], whatever those variables are.
Constants are multiples of the function `ONE`.

A rule gives ids to what it computes from the operator and the ids of the operands; what it does not say gets a fresh
id, which nothing equals. Axes of symbolic size are always left open: their example sizes say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.channels.alike_cells import Cells, Constants
from compress.channels.factors import coverage, every
from compress.channels.frozen import frozen
from compress.channels.graph import Array, Node, Shape
from compress.channels.multiples import normalised
from compress.channels.numbering import ONE, Numbering

if TYPE_CHECKING:
    from compress.channels.trace import Trace

# Two roundings of a weight, one of the entry that it is divided by, and what a scale gathers on its way.
ROUNDINGS = 8


@dataclass(frozen=True)
class Read:
    """A constant weight contracts channels.

    Attributes:
        node: which contracts them.
        weight: its name.
        axis: of the weight, along which the channels lie.
        columns: what is known of them, by group: shape (groups, channels of a group).
    """

    node: Node
    weight: str
    axis: int
    columns: Cells


class Likeness:
    """The cells of every tensor of a graph.

    Attributes:
        trace: what else is known of the graph.
        cells: by tensor.
        reads: in the order of the graph.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.cells: dict[str, Cells] = {}
        self.reads: list[Read] = []
        self.numbering = Numbering(ROUNDINGS * trace.epsilon)
        self._constants = Constants(trace, self.numbering)
        self._opened: dict[tuple[int, tuple[int, ...]], tuple[Cells, Cells]] = {}

    def fresh(self, name: str) -> None:
        """Says that a tensor is like no other."""
        rank = len(self.trace.graph.shapes.get(name, ()))
        self.cells[name] = Cells(np.full((1,) * rank, self.numbering.fresh()), np.ones((1,) * rank))

    def of(self, name: str) -> Cells:
        """Returns what is known of a tensor; one that is known to be constant is a single function."""
        if self._constants.value(name) is not None:
            return self.constant(name, ())
        if name not in self.cells:
            self.fresh(name)
        return self.cells[name]

    def covered(self, name: str) -> tuple[int, ...]:
        """Returns the axes of a tensor along which its cells are apart."""
        return () if self._constants.value(name) is not None else coverage(self.of(name).ids)

    def set(self, name: str, cells: Cells) -> None:
        """Records what is known of a tensor, and where its value is known as well."""
        ids, scales = cells.ids, cells.scales
        if ids.shape != scales.shape:
            ids, scales = np.broadcast_arrays(ids, scales)
        if self._symbolic(name, coverage(ids)) or not every(np.isfinite(scales)):
            self.fresh(name)
            return
        value = self.trace.values.get(name)
        if value is not None and value.dtype.kind == "f" and set(coverage(value)) <= set(coverage(ids)):
            known = ~np.isnan(value)
            ids, scales = np.where(known, ONE, ids), np.where(known, value.astype(np.float64), scales)
        self.cells[name] = Cells(ids if every(scales) else np.where(scales == 0, ONE, ids), scales)

    def _symbolic(self, name: str, axes: Iterable[int]) -> bool:
        """Tells whether the size of one of some axes is only an example."""
        return name in self.trace.graph.dynamic and any(self.trace.graph.is_dynamic(name, axis) for axis in axes)

    def constant(self, name: str, axes: Iterable[int], rank: int | None = None) -> Cells:
        """Returns the cells of a constant, broadcast to `rank` axes: apart along `axes`, open along the others."""
        return self._constants.cells(name, tuple(axes), rank)

    def operand(self, name: str, axes: Iterable[int], rank: int) -> Cells:
        """Returns a tensor's cells, broadcast to `rank` axes and told apart along `axes` wherever it has any size."""
        if self._constants.value(name) is not None:
            return self.constant(name, axes, rank)
        shape = self.trace.graph.shapes[name]
        cells, missing = self.of(name), (1,) * (rank - len(shape))
        padded = cells.reshape(missing + cells.ids.shape) if missing else cells
        return self.apart(padded, missing + tuple(shape), axes)

    def apart(self, cells: Cells, shape: Shape, axes: Iterable[int]) -> Cells:
        """Tells the positions of a tensor of `shape` apart along `axes`: an open variable gets its value."""
        for axis in axes:
            if cells.ids.shape[axis] == shape[axis]:
                continue
            grown = cells.broadcast(shape[axis] if a == axis else n for a, n in enumerate(cells.ids.shape))
            place = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
            keys = np.stack([grown.ids, np.broadcast_to(place, grown.ids.shape)], axis=-1).reshape(-1, 2)
            ids = self.numbering.number(("at", axis, len(shape)), keys).reshape(grown.ids.shape)
            cells = Cells(np.where(grown.ids == ONE, ONE, ids), grown.scales)
        return cells

    def opened(self, cells: Cells, axes: Iterable[int]) -> Cells:
        """Leaves axes open: what lies along them together is one function."""
        inner = tuple([axis for axis in axes if cells.ids.shape[axis] > 1])
        if not inner:
            return cells
        # What several nodes read is opened once.
        known, found = self._opened.get((id(cells), inner), (None, cells))
        if known is not cells:
            found = self._together(cells, inner)
            self._opened[id(cells), inner] = cells, found
        return found

    def _together(self, cells: Cells, inner: tuple[int, ...]) -> Cells:
        ids, scales = (
            np.moveaxis(part, inner, range(part.ndim - len(inner), part.ndim)) for part in (cells.ids, cells.scales)
        )
        width = int(np.prod([cells.ids.shape[axis] for axis in inner]))
        shares, factors = normalised(scales.reshape(-1, width))
        signature = ("along", inner, tuple(cells.ids.shape[axis] for axis in inner))
        found = self.numbering.number(signature, ids.reshape(-1, width), shares)
        shape = [1 if axis in inner else size for axis, size in enumerate(cells.ids.shape)]
        return Cells(found.reshape(shape), factors.reshape(shape))

    def applied(self, signature: Hashable, cells: Cells, *, homogeneous: bool = False, linear: bool = False) -> Cells:
        """Returns the result of an operator on each cell by itself.

        Args:
            signature: the operator and all that decides what it does.
            cells: of its operand.
            homogeneous: f(s·x) = s·f(x) for s > 0.
            linear: for any s.
        """
        ids, scales = cells.ids.reshape(-1, 1), cells.scales.reshape(-1, 1)
        if linear:
            found, factors = self.numbering.number(signature, ids), cells.scales
        elif homogeneous:
            keys = np.concatenate([ids, np.sign(scales).astype(np.int64)], axis=1)
            found, factors = self.numbering.number(signature, keys), np.abs(cells.scales)
        else:
            found, factors = self.numbering.number(signature, ids, scales), np.ones(cells.ids.shape)
        return Cells(found.reshape(cells.ids.shape), factors)

    def moved(self, node: Node, forward: Callable[[Array], Array]) -> None:
        """Moves the cells of a node's input to its output by a bijection of positions that moves cell arrays."""
        x, y = node.input(0), node.outputs[0]
        shape, cells = self.trace.graph.shapes[x], self.of(x)
        if math.prod(shape) != math.prod(self.trace.graph.shapes[y]):
            # The model contradicts itself; what runs it will say so.
            self.fresh(y)
            return
        places = forward(_counted(cells.ids.shape))
        covered = set(coverage(places))
        for axis in [a for a, size in enumerate(shape) if size > 1 and cells.ids.shape[a] == 1 and covered]:
            if set(coverage(forward(_counted(_only(axis, shape))))) & covered:
                if self.trace.graph.is_dynamic(x, axis):
                    self.fresh(y)
                    return
                cells = self.apart(cells, shape, (axis,))
                places = forward(_counted(cells.ids.shape))
                covered = set(coverage(places))
        there = cells.at(places)
        self.set(y, self.applied(self.signature(node, there, node.inputs[1:]), there, linear=True))

    def signature(
        self, node: Node, cells: Cells | None, parameters: Iterable[str] = (), without: tuple[str, ...] = ()
    ) -> Hashable:
        """Returns all that decides what a node does with its first input.

        Args:
            node: the operation.
            cells: those of the input; None where its open variables do not count.
            parameters: inputs whose content counts.
            without: attributes that do not count.
        """
        attributes = [(key, frozen(value)) for key, value in sorted(node.attributes.items()) if key not in without]
        extent = None if cells is None else self.extent(node.input(0), cells)
        return (node.key, tuple(attributes), tuple([self.parameter(name) for name in parameters]), extent)

    def extent(self, name: str, cells: Cells) -> Hashable:
        """Returns how far the open variables of a tensor's cells reach.

        A constant does not know the sizes of variables: with one among the cells the tensor is named.
        """
        return (self.trace.graph.shapes[name], name if (cells.ids == ONE).any() else "")

    def parameter(self, name: str) -> Hashable:
        """Returns what tells one parameter from another: its value or, if it is computed, its id."""
        value = self._constants.value(name) if name else None
        if value is not None:
            shape = self.trace.graph.shapes.get(name, value.shape)
            return frozen(value if value.shape == shape else np.broadcast_to(value, shape))
        found = self.cells.get(name)
        return (int(found.ids.flat[0]), float(found.scales.flat[0])) if found and found.ids.size == 1 else name


def leading(trace: Trace, wanted: Iterable[str]) -> list[Node]:
    """Returns the nodes by which some tensors depend on the inputs of the graph, in its order."""
    wanted, found = frozenset(wanted), list[Node]()
    asked = set(wanted)
    for node in reversed(trace.graph.nodes):
        made = asked.intersection(node.outputs)
        if any(name in wanted or name in trace.examples or trace.constant(name) is None for name in made):
            found.append(node)
            asked.update(node.inputs)
    return found[::-1]


def likeness(trace: Trace, wanted: Iterable[str] | None = None) -> Likeness:
    """Runs the interpretation: a fresh id for every input of the graph, then each node's rule.

    Args:
        trace: what else is known of the graph.
        wanted: the tensors that somebody asks for; what does not lead to them is left out. All if None.
    """
    result = Likeness(trace)
    for node in trace.graph.nodes if wanted is None else leading(trace, wanted):
        trace.rule(node).alike(node, trace, result)
    return result


def _counted(shape: Iterable[int]) -> Array:
    """Returns the flat positions of an array, in its shape: no two are equal, so whatever moves them shows how."""
    sizes: Any = tuple(shape)
    return np.arange(math.prod(sizes)).reshape(sizes)


def _only(axis: int, shape: Shape) -> Shape:
    return tuple(size if a == axis else 1 for a, size in enumerate(shape))

"""Recurrent layers: input features are contracted; a hidden unit is one position of every gate and of the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.channels.cells import along, store
from compress.channels.factors import as_factors, on_axis
from compress.channels.graph import Array, Node
from compress.channels.rules import rules
from compress.channels.rules.base import NodeEdit, Rule

if TYPE_CHECKING:
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace


class Recurrent(Rule):
    """X[T, N, I], W[D, G·H, I], R[D, G·H, H], B[D, 2·G·H], states [D, N, H] → Y[T, D, N, H], last states [D, N, H].

    D is 2 for both directions: Y has one axis for the units of both, so a unit goes from both or from none.

    Args:
        activations: of one direction, as the operator's default has them; the candidate's maps 0 to 0.
        gates: G.
        candidate: which gate holds the candidate for the new state.
        states: input indices of the initial states.
        peepholes: input index of P[D, 3·H], if there is one.
    """

    multiplies = True
    several_outputs = True

    def __init__(
        self, activations: tuple[str, ...], gates: int, candidate: int, states: tuple[int, ...], peepholes: int = 0
    ) -> None:
        self.activations = activations
        self.gates = gates
        self.candidate = candidate
        self.states = states
        self.peepholes = peepholes

    def label(self, node: Node, trace: Trace) -> None:
        labels, shapes = trace.labels, trace.graph.shapes
        x, weight, recurrence, bias = (node.input(index) for index in range(4))
        if node.attributes.get("layout", 0):
            for name in filter(None, node.inputs):
                for factor in labels.of(name):
                    labels.pin(factor, node, "its batch axis comes first")
            return
        labels.unify(labels.axis(x, 2, node), labels.axis(weight, 2, node, role="in"), node)
        units = labels.axis(recurrence, 2, node, role="in")
        rows = [labels.axis(weight, 1, node, role="out"), labels.axis(recurrence, 1, node, role="other")]
        states = [node.input(index) for index in self.states if node.input(index)]
        vectors = [name for name in (bias, node.input(self.peepholes) if self.peepholes else "") if name]
        rows += [labels.axis(name, 1, node, role="shift" if name == bias else "other") for name in vectors]
        rows += [labels.axis(name, 2, node) for name in states]
        for atoms in rows:
            labels.unify(atoms.reshape(-1, units.size), units[None, :], node)
        labels.pin_axes(x, (0, 1), node, "it is time or batch of a recurrent layer")
        for name in (weight, recurrence, *vectors, *states):
            batch = (1,) if name in states else ()
            labels.pin_axes(name, (0, *batch), node, "it is direction or batch of a recurrent layer")
        for name in filter(None, node.outputs):
            rank = len(shapes[name])
            labels.factors[name] = as_factors(on_axis(units, rank - 1, rank))
        for name in (weight, recurrence):
            labels.reuse[name] = labels.reuse.get(name, 0) + shapes[x][0]

    def evaluate(self, node: Node, trace: Trace) -> None:
        idle = self._idle(node, trace)
        if idle is None or not idle.any():
            return
        dtype = trace.values[node.input(1)].dtype
        known = np.where(idle, np.zeros((), dtype), np.asarray(np.nan, dtype))[:, None, :]  # (D, 1, H)
        for name in filter(None, node.outputs):
            store(name, known if len(trace.graph.shapes[name]) == 3 else known[None], trace)

    def need(self, node: Node, trace: Trace) -> None:
        x, shapes = node.input(0), trace.graph.shapes
        if node.attributes.get("layout", 0) or self._weights(node, trace) is None:
            for name in filter(None, node.inputs):
                trace.keep(name, trace.all_of(name))
            return
        directions, _, hidden = shapes[node.input(2)]
        needed: Array = np.zeros((directions, hidden), dtype=bool)
        for name in filter(None, node.outputs):
            cells = trace.demand(name)
            cells = np.asarray(cells.any(axis=0)) if cells.ndim == 4 else cells
            needed = needed | cells.any(axis=1)
        heard = self._by_unit(node, 2, trace).any(axis=1)  # (D, reader, read)
        idle = self._idle(node, trace)
        heard = heard if idle is None else heard & ~idle[:, None, :]
        while True:
            more = needed | (heard & needed[:, :, None]).any(axis=1)
            if (more == needed).all():
                break
            needed = more
        # A unit that only other units read has no reader outside, so it is the layer itself that keeps it.
        last = next(name for name in node.outputs if name)
        cells = needed[:, None, :]
        trace.keep(last, cells if len(shapes[last]) == 3 else cells[None])
        reads = self._by_unit(node, 1, trace).any(axis=1)  # (D, H, I)
        used = np.asarray((reads & needed[:, :, None]).any(axis=(0, 1)))
        trace.keep(x, on_axis(used & trace.stays(self._inputs(node, trace), foldable=False), 2, 3))
        for index in range(3, len(node.inputs)):
            if node.input(index) and index != 4:
                state = index in self.states
                whole = trace.all_of(node.input(index))
                trace.need(node.input(index), cells if state else whole & needed.any())

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        hidden, remaining = trace.graph.shapes[node.input(2)][2], kept.count(node.input(2), 2)
        return NodeEdit(attributes={"hidden_size": remaining}) if remaining != hidden else None

    def _idle(self, node: Node, trace: Trace) -> Array | None:
        """Returns which units are zero at all times, None if that cannot be told. Shape: (D, H).

        A state that starts as zero stays so while its candidate is zero: the candidate's biases are, it reads only
        zeros of X, and only units that are themselves zero.
        """
        activations = [a.decode() if isinstance(a, bytes) else a for a in node.attributes.get("activations", ())]
        directions, _, hidden = trace.graph.shapes[node.input(2)]
        standard = [name.lower() for name in activations] in ([], list(self.activations) * directions)
        bias = trace.full(node.input(3)) if node.input(3) else np.zeros((directions, 2 * self.gates * hidden))
        if node.attributes.get("layout", 0) or not standard or self._weights(node, trace) is None or bias is None:
            return None
        shifted = bias.reshape(directions, 2, self.gates, hidden)[:, :, self.candidate].any(axis=1)
        fed = self._by_unit(node, 1, trace)[:, self.candidate] & (self._inputs(node, trace) != 0)
        idle = ~shifted & ~fed.any(axis=2)
        for name in (node.input(index) for index in self.states):
            start = trace.values.get(name) if name else np.zeros((1, 1, 1))
            if start is None:
                return None
            idle = idle & (start == 0).all(axis=1)
        heard = self._by_unit(node, 2, trace)[:, self.candidate]
        while True:
            fewer = idle & ~(heard & ~idle[:, None, :]).any(axis=2)
            if (fewer == idle).all():
                return np.asarray(idle)
            idle = fewer

    def _weights(self, node: Node, trace: Trace) -> tuple[Array, Array] | None:
        """Returns W and R, or None where one of them is not known."""
        weight, recurrence = trace.full(node.input(1)), trace.full(node.input(2))
        return None if weight is None or recurrence is None else (weight, recurrence)

    def _by_unit(self, node: Node, index: int, trace: Trace) -> Array:
        """Returns which gate of which unit reads which column of W (input 1) or R (input 2). Shape: (D, G, H, …)."""
        directions, _, columns = trace.graph.shapes[node.input(index)]
        return trace.nonzero(node.input(index)).reshape(directions, self.gates, -1, columns)

    def _inputs(self, node: Node, trace: Trace) -> Array:
        """Returns the constant value of each input feature, NaN where it varies."""
        size = trace.graph.shapes[node.input(0)][2]
        value = trace.values.get(node.input(0))
        return np.full(size, np.nan, np.float32) if value is None else along(value, 2, size)


# Gates are stored in the order input, output, forget, cell; and update, reset, hidden.
rules.register("LSTM")(Recurrent(("sigmoid", "tanh", "tanh"), 4, 3, states=(5, 6), peepholes=7))
rules.register("GRU")(Recurrent(("sigmoid", "tanh"), 3, 2, states=(5,)))

"""Sequences of tensors, followed from where they are made to where their tensors are taken out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from compress.channels.graph import Array

_MAKERS = ("SplitToSequence", "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase")
_READERS = ("SequenceAt", "ConcatFromSequence")
_Part = tuple[NodeProto, list[NodeProto]]


@dataclass(frozen=True)
class _Held:
    """The tensors of a sequence, by name; of an open one more may follow."""

    names: tuple[str, ...]
    is_open: bool = False


class Sequences:
    """The sequences of a graph whose every tensor is known by name, wherever it is taken out.

    Args:
        nodes: in topological order.
        constants: initializers and constants by name.
        read_elsewhere: names that are outputs of the graph, or that subgraphs read.
    """

    def __init__(
        self, nodes: Sequence[NodeProto], constants: Mapping[str, Array], read_elsewhere: Collection[str]
    ) -> None:
        self._constants = constants
        self._held: dict[str, _Held] = {}
        if not any(node.op_type in _MAKERS and not node.domain for node in nodes):
            return
        highest: dict[str, int] = {}
        for node in nodes:
            if node.op_type == "SequenceAt":
                highest[node.input[0]] = max(highest.get(node.input[0], 0), self._number(node.input[1]) or 0)
        unknown: set[str] = set(read_elsewhere)
        while True:
            self._held = {}
            for node in nodes:
                held = self._made(node, highest.get(node.output[0], 0)) if node.output else None
                if held is not None and node.output[0] not in unknown:
                    self._held[node.output[0]] = held
            # A sequence that something else reads has to stay one.
            more = {
                name
                for node in nodes
                for name in node.input
                if name in self._held and not self._taken(node) and node.output[0] not in self._held
            }
            if not more:
                return
            unknown |= more

    def parts(self, node: NodeProto) -> list[_Part] | None:
        """Returns what a node is in terms of tensors, each with nodes of the same shapes; None if it stays as it is."""
        if node.op_type in _MAKERS and not node.domain and node.output[0] in self._held:
            return [self._split(node)] if node.op_type == "SplitToSequence" else []
        if node.op_type not in _READERS or node.domain or node.input[0] not in self._held:
            return None
        held = self._held[node.input[0]].names
        if node.op_type == "SequenceAt":
            plain = helper.make_node("Identity", [held[self._number(node.input[1]) or 0]], node.output, node.name)
        else:
            axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
            plain = helper.make_node("Concat", held, node.output, node.name, axis=axis)
        return [(plain, [plain])]

    def _made(self, node: NodeProto, highest: int) -> _Held | None:
        """Returns what the sequence that a node makes holds; None if that is not known before it runs."""
        if node.domain or node.op_type not in _MAKERS:
            return None
        if node.op_type == "SequenceEmpty":
            return _Held(())
        if node.op_type == "SequenceConstruct":
            return _Held(tuple(node.input))
        if node.op_type == "SplitToSequence":
            sizes, squeezed = self._sizes(node), not _attribute(node, "keepdims", 1)
            if sizes is None or (squeezed and len(node.input) < 2):
                return None
            count = sizes.size if sizes.ndim else highest + 1
            return _Held(tuple(f"{node.output[0]}/{index}" for index in range(count)), is_open=sizes.ndim == 0)
        before = self._held.get(node.input[0])
        if before is None or before.is_open:
            return None
        names, place = list(before.names), -1 if node.op_type == "SequenceErase" else len(before.names)
        given = node.input[2 if node.op_type == "SequenceInsert" else 1 :]
        if given:
            number = self._number(given[0])
            if number is None or not -len(names) <= number <= len(names):
                return None
            place = number
        if node.op_type == "SequenceInsert":
            names.insert(place, node.input[1])
        else:
            del names[place]
        return _Held(tuple(names))

    def _taken(self, node: NodeProto) -> bool:
        """Tells whether the tensors that a node takes out of a sequence are known."""
        held = self._held[node.input[0]]
        if node.op_type == "SequenceAt":
            number = self._number(node.input[1])
            return number is not None and (-len(held.names) if not held.is_open else 0) <= number < len(held.names)
        return node.op_type == "ConcatFromSequence" and not held.is_open and not _attribute(node, "new_axis", 0)

    def _split(self, node: NodeProto) -> _Part:
        """Returns a split with an output for each tensor, and slices that have their shapes."""
        sizes, names = self._sizes(node), self._held[node.output[0]].names
        step = np.asarray(1) if sizes is None else sizes
        bounds = np.cumsum([0, *step]) if step.ndim else np.arange(len(names) + 1) * step
        axis = _attribute(node, "axis", 0)
        slices = []
        for name, start, end in zip(names, bounds, bounds[1:], strict=False):
            limits = {"start": start, "end": end, "axis": axis}
            slices += [
                helper.make_node(
                    "Constant", [], [f"{name}/{key}"], value=numpy_helper.from_array(np.array([value], np.int64))
                )
                for key, value in limits.items()
            ]
            slices.append(helper.make_node("Slice", [node.input[0], *(f"{name}/{key}" for key in limits)], [name]))
        return helper.make_node("SplitToSequence", node.input, names, node.name, axis=axis), slices

    def _sizes(self, node: NodeProto) -> Array | None:
        """Returns the size of each part of a split (1-D), or of all but the last (a number); None if not known."""
        if len(node.input) < 2 or not node.input[1]:
            return np.asarray(1)
        return self._constants.get(node.input[1])

    def _number(self, name: str) -> int | None:
        value = self._constants.get(name)
        return int(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)

"""The three passes over a graph: labels forwards, constants forwards, needs backwards.

*Labels* say what must go together, *values* what does not depend on the input, *needs* what an output depends on.
None of the three changes the graph.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, wraps
from typing import Any, TypeVar

import numpy as np

from compress.channels.factors import any_behind, on_axis, some
from compress.channels.graph import Array, Graph, Node
from compress.channels.labels import Labels
from compress.channels.roles import hand_back
from compress.channels.rules import rules
from compress.channels.rules.base import Rule
from compress.channels.rules.opaque import Opaque
from compress.channels.widths import MINIMAL, WidthPolicy

_T = TypeVar("_T")
_OPAQUE = Opaque()
PARAMETER = "it is a parameter of the operator"


@dataclass
class Trace:
    """What is known about a graph.

    Attributes:
        graph: the graph.
        labels: its labels.
        values: constant values by tensor: arrays that broadcast to the tensor's shape, NaN where the value depends on
            the input. A tensor that depends on it everywhere is absent.
        examples: values of integer tensors that hold only because symbolic axes were given example sizes. They serve
            to read shapes and indices, never to fold anything.
        fixed: which entries of examples hold for all sizes, where that is known.
        needs: which cells of a tensor an output depends on, as booleans that broadcast to the tensor's shape.
        choices: (tensor, axis, positions): one of these positions, whichever, must stay.
        epsilon: weights below ε × the largest magnitude of their tensor count as zero.
        fold: whether a constant other than zero may move into the next bias; otherwise its channel is needed.
        widths: how many channels a layer that loses some keeps, dead ones among them.
        averaging: tensors whose entries sum to one along an axis, and that axis: a product over it averages.
        unknown: operators without a rule, and how often they occur.
        readers: who needs which cells of a tensor even where their value is known.
        made: which cells of known value somebody reads as they are, so that they must come out right: a sum can add
            what is the same everywhere as a bias, and has to make all else of inputs that stay.
        sharp: which cells that must come out right are read place by place; of all others only the mean over the places
            of their channel is used, so that a bias can stand for what differs from place to place.
        tainted: tensors whose known values follow from ones that differ from place to place, which no bias can hold:
            they come out right only where somebody asks for them.
        endless: tensors computed from constants alone, of which some hold numbers whose squares are not finite.
        complete: whether all three passes have been run, and not only the one that finds values.
        settling: whether what must come out right is being found, rather than what depends on the input.
        sharpening: whether what is read place by place is being found.
    """

    graph: Graph
    labels: Labels
    epsilon: float = 0.0
    fold: bool = True
    widths: WidthPolicy = MINIMAL
    values: dict[str, Array] = field(default_factory=dict)
    examples: dict[str, Array] = field(default_factory=dict)
    fixed: dict[str, Array] = field(default_factory=dict)
    needs: dict[str, Array] = field(default_factory=dict)
    choices: list[tuple[str, int, Array]] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    averaging: dict[str, int] = field(default_factory=dict)
    readers: dict[str, list[tuple[Node, Array]]] = field(default_factory=dict)
    made: dict[str, Array] = field(default_factory=dict)
    sharp: dict[str, Array] = field(default_factory=dict)
    tainted: set[str] = field(default_factory=set)
    endless: set[str] = field(default_factory=set)
    complete: bool = False
    _reader: Node | None = None
    # Not for the constructor: a trace that differs in anything finds for itself.
    _found: dict[Any, Any] = field(default_factory=dict, init=False)
    _scales: dict[int, tuple[Array, float]] = field(default_factory=dict)
    settling: bool = False
    sharpening: bool = False
    _blurring: bool = False
    _blurred: set[str] = field(default_factory=set)
    _nonzero: dict[tuple[str, int], Array] = field(default_factory=dict)
    _rules: dict[Node, Rule] = field(default_factory=dict)

    def rule(self, node: Node) -> Rule:
        """Returns the rule of a node of the graph; what no rule knows is opaque."""
        known = self._rules.get(node)
        if known is None:
            found = rules.find(node.key)
            known = self._rules[node] = _OPAQUE if found is None or self.obstacle(node) else found
        return known

    def obstacle(self, node: Node) -> str | None:
        """Returns why no rule speaks for a node, or None if one does."""
        found = rules.find(node.key)
        if found is None or node.captured:
            return f"operator {node.key} has no rule"
        hidden = [name for name in (*node.inputs, *node.outputs) if name and name not in self.graph.shapes]
        if hidden:
            return f"the shape of {hidden[0]!r} is not known"
        if found.multiplies:
            # 0 · ∞ is no 0: channels of zeros are not dead where such numbers read them. Nor is ∞ - ∞ a multiple of ∞:
            # where products are infinite, channels that are alike cannot stand for one another.
            endless = [name for name in node.inputs if self._endless(name)]
            if endless:
                return f"constant {endless[0]!r} holds numbers whose products may not be finite"
        beside = [name for name in node.outputs[1:] if name in self.read] if not found.several_outputs else []
        if beside or not any(node.outputs[:1]):
            return f"operator {node.key} has no rule for its output {(beside or node.outputs)[-1]!r}"
        return None

    def _endless(self, name: str) -> bool:
        """Tells whether a tensor is a constant, or follows from such, with numbers whose squares are not finite."""
        value = self.graph.constants.get(name)
        if value is None or value.dtype.kind != "f":
            return name in self.endless
        return not self._scale(value) <= _root_of_largest(value.dtype)

    @cached_property
    def read(self) -> frozenset[str]:
        """The tensors that something reads."""
        inner = (name for node in self.graph.nodes for name in (*node.inputs, *node.captured))
        return frozenset((*inner, *self.graph.outputs))

    def once(self, key: Hashable, find: Callable[[], _T]) -> _T:
        """Returns what `find` finds, looked for once for each key; it is not to be changed."""
        if key not in self._found:
            self._found[key] = find()
        found: _T = self._found[key]
        return found

    def uses(self, name: str) -> int:
        """Returns how often a tensor is read."""
        return self._uses[name]

    def alone(self, name: str) -> bool:
        """Tells whether a tensor is a constant that is read once."""
        return name in self.graph.constants and self._uses[name] == 1

    @cached_property
    def _uses(self) -> Counter[str]:
        inner = (name for node in self.graph.nodes for name in (*node.inputs, *node.captured))
        return Counter((*inner, *self.graph.outputs))

    def producer(self, name: str) -> Node | None:
        """Returns the node that computes a tensor; None for inputs and constants."""
        return self._producers.get(name)

    @cached_property
    def _producers(self) -> dict[str, Node]:
        return {name: node for node in self.graph.nodes for name in node.outputs if name}

    def integers(self, name: str) -> Array | None:
        """Returns the value of an integer tensor (a shape, an index), or None if it is not known."""
        if not name:
            return None
        value = self.examples.get(name, self.values.get(name))
        if value is None or value.size != math.prod(self.graph.shapes.get(name, (-1,))):
            return None
        if value.dtype.kind == "f" and np.isnan(value).any():
            return None
        return value

    def constant(self, name: str) -> Array | None:
        """Returns the value of a tensor that depends on no input, broadcastable to its shape; None if it does."""
        value = self.values.get(name)
        if value is None or value.dtype.kind != "f":
            return value
        return None if math.isnan(self._scale(value)) else value

    def full(self, name: str) -> Array | None:
        """Returns what `constant` does, in the tensor's own shape: weights need not be stored, they can be computed."""
        value, shape = self.constant(name), self.graph.shapes[name]
        return value if value is None or value.shape == shape else np.broadcast_to(value, shape)

    def nonzero(self, name: str, axes: int | None = None) -> Array:
        """Returns which entries of a constant count as nonzero.

        Args:
            name: the constant.
            axes: how many of the leading axes are told apart: whether any entry along the others is nonzero. None: all.

        Returns:
            Booleans of the tensor's shape, or of its first `axes` axes.
        """
        shape = self.graph.shapes[name]
        kept = len(shape) if axes is None else min(axes, len(shape))
        found = self._nonzero.get((name, kept))
        if found is None:
            value = self.values[name]
            value = value if value.shape == shape else np.broadcast_to(value, shape)
            found = self._beyond(value) if value.dtype.kind == "f" else np.asarray(value != 0)
            found = self._nonzero[(name, kept)] = any_behind(found, kept) if kept < len(shape) else found
        return found

    def limit(self, value: Array) -> float:
        """Returns the largest magnitude that counts as zero among the entries of a floating-point constant."""
        if self.epsilon == 0 or value.size == 0:
            return 0.0
        scale = self._scale(value)
        if not math.isfinite(scale):
            # NaN and infinity give no scale.
            finite = value[np.isfinite(value)]
            scale = np.abs(finite).max(initial=0)
        return float(self.epsilon * scale)

    def _scale(self, value: Array) -> float:
        """Returns the largest magnitude among floating-point numbers; not finite if one is not, NaN if one is.

        A weight is asked for again and again, and read whole but once.
        """
        looked_at, scale = self._scales.get(id(value), (None, 0.0))
        if looked_at is not value:
            scale = float(max(value.max(), -value.min())) if value.size else 0.0
            self._scales[id(value)] = value, scale
        return scale

    def _beyond(self, value: Array) -> Array:
        """Tells which entries lie beyond ε × the largest magnitude; NaN does."""
        if self.epsilon == 0 or value.size == 0:
            return np.asarray(value != 0)
        limit = self.limit(value)
        # An all-zero tensor has no scale: nothing in it is nonzero.
        within = value >= -limit
        within &= value <= limit
        return np.asarray(~within)

    def need(self, name: str, cells: Array) -> None:
        """Marks cells of a tensor as needed, but for those whose value is known: these must only come out right."""
        if not name or name in self.graph.constants:
            return
        if self.settling:
            # What is known follows from what is known.
            cells = cells & ~self.varies(name)
        self._sharpen(name, cells)
        if self.sharpening:
            return
        value = self.values.get(name)
        if value is None:
            if not self.settling:
                self._keep(name, cells)
            return
        varies = self.varies(name)
        if not self.settling:
            self._keep(name, cells & varies)
        known, before = cells & ~varies, self.made.get(name)
        if some(known):
            self.made[name] = known if before is None else before | known

    def keep(self, name: str, cells: Array) -> None:
        """Marks cells of a tensor as needed even where their value is known."""
        if self.settling:
            cells = cells & ~self.varies(name)
        self._sharpen(name, cells)
        if not self.sharpening:
            self._keep(name, cells)

    def _keep(self, name: str, cells: Array) -> None:
        if self._reader is not None:
            self.readers.setdefault(name, []).append((self._reader, cells))
        before = self.needs.get(name)
        self.needs[name] = cells if before is None else before | cells

    def keep_one(self, name: str, axis: int, positions: Array) -> None:
        """Has one of some positions of a tensor stay, whichever is kept anyway; else one that serves most choices."""
        if self.sharpening:
            return
        self.choices.append((name, axis, positions))
        shape = self.graph.shapes[name]
        marked = np.zeros(shape[axis], dtype=bool)
        marked[positions] = True
        cells = on_axis(marked, axis, len(shape))
        if self._reader is not None:
            self.readers.setdefault(name, []).append((self._reader, cells))
        # Whichever it is must come out right.
        self.need(name, cells)

    def stays(self, inputs: Array, *, foldable: bool = True) -> Array:
        """Returns which inputs of a weighted sum must be there if they are read.

        Args:
            inputs: the value of each, NaN where it has not one.
            foldable: whether a bias could stand for a constant input.
        """
        shown = (inputs != 0) & (not (foldable and self.fold))
        return np.asarray(np.isnan(inputs) | shown)

    def all_of(self, name: str) -> Array:
        """Returns the cells of a tensor, all of them marked, as one; not to be changed."""
        return _marked_alike(len(self.graph.shapes.get(name, ())), True)

    def none_of(self, name: str) -> Array:
        """Returns the cells of a tensor, none of them marked, as one; not to be changed."""
        return _marked_alike(len(self.graph.shapes.get(name, ())), False)

    def varies(self, name: str) -> Array:
        """Returns which cells of a tensor depend on the input."""
        value = self.values.get(name)
        if value is None:
            return self.all_of(name)
        return np.isnan(value) if value.dtype.kind == "f" else np.zeros(value.shape, dtype=bool)

    def demand(self, name: str) -> Array:
        """Returns which cells of a tensor are needed and depend on the input: what its producer must compute.

        While it is settled what must come out right (`settle`): which cells must that are known. While it is found what
        is read place by place: which cells are.
        """
        if self.sharpening:
            return self.asked_sharply(name)
        if self.settling:
            return self.asked(name) & ~self.varies(name)
        needed = self.needs.get(name)
        if needed is None:
            return self.none_of(name)
        return needed & self.varies(name) if name in self.values else needed

    def asked(self, name: str) -> Array:
        """Returns which cells of a tensor must come out right, known or not."""
        needed, made = self.needs.get(name), self.made.get(name)
        if needed is None or made is None:
            found = made if needed is None else needed
            return self.none_of(name) if found is None else found
        return np.asarray(needed | made)

    def asked_sharply(self, name: str) -> Array:
        """Returns which cells of a tensor must come out right in each place."""
        sharp = self.sharp.get(name)
        return self.none_of(name) if sharp is None else self.asked(name) & sharp

    def ask(self, node: Node) -> None:
        """Runs the rule of a node backwards.

        First for what depends on the input; then for cells of known value that must come out right, which follow from
        inputs of known value as needs go; then for what is read place by place.
        """
        rule, made = self.rule(node), list(filter(None, node.outputs))
        partly = not self._blurred.isdisjoint(made)
        blurs = rule.blurs(node, self) if partly or rule.averages else None
        if blurs == "place by place" and not partly:
            blurs = None
        self._blurring = blurs is not None
        rule.need(node, self)
        if not rule.settles and not self.values.keys().isdisjoint(made):
            self.settling = True
            if any(some(self.demand(name)) for name in made):
                rule.need(node, self)
            self.settling = False
        self._blurring = False
        if blurs == "place by place":
            self.sharpening = True
            if any(some(self.demand(name)) for name in made):
                rule.need(node, self)
            self.sharpening = False

    def _sharpen(self, name: str, cells: Array) -> None:
        if self._blurring:
            self._blurred.add(name)
            return
        before = self.sharp.get(name)
        self.sharp[name] = cells if before is None else before | cells


def trace(
    graph: Graph, *, epsilon: float = 0.0, fold: bool = True, widths: WidthPolicy = MINIMAL, spread: bool = False
) -> Trace:
    """Runs the three passes.

    Args:
        graph: the graph.
        epsilon: weights below ε × the largest magnitude of their tensor count as zero; 0: only true zeros.
        fold: whether a constant other than zero may move into the next bias.
        widths: how many channels a layer that loses some keeps.
        spread: whether heads, groups and what is inside of them may go; see `Labels`.
    """
    return completed(evaluated(graph, epsilon=epsilon, fold=fold, widths=widths, spread=spread))


def evaluated(
    graph: Graph, *, epsilon: float = 0.0, fold: bool = True, widths: WidthPolicy = MINIMAL, spread: bool = False
) -> Trace:
    """Runs the pass that finds values alone; see `trace`."""
    labels = Labels(graph, spread=spread)
    result = Trace(graph, labels, epsilon=epsilon, fold=fold, widths=widths, values=dict(graph.constants))
    _evaluate(result)
    return result


def completed(result: Trace) -> Trace:
    """Runs the other two passes on what `evaluated` has returned, which becomes complete; returns it."""
    graph, labels = result.graph, result.labels
    result.unknown.update(unruled(graph))
    for name in graph.constants:
        # Every constant has its atoms from the start; what no node reads may have been read by one that was folded.
        factors = labels.of(name)
        for factor in factors if name not in result.read else ():
            labels.pin(factor, Node("Constant", f"constant {name!r}", (), ()), "no operator reads it")
    ignored: dict[Node, list[str]] = {}
    for node in graph.nodes:
        labels.asked.clear()
        result.rule(node).label(node, result)
        ignored[node] = [name for name in node.inputs if name and name not in labels.asked]
    hand_back(labels)
    for node, names in ignored.items():
        # An input whose labels a rule did not ask for is read as a whole: a shape, an index, a bound.
        for factor in (factor for name in names for factor in labels.of(name)):
            labels.pin(factor, node, PARAMETER)
    for name in graph.outputs:
        output = Node("Output", f"graph output {name!r}", (name,), ())
        for factor in labels.of(name):
            labels.pin(factor, output, "it is an output of the network")
        result.keep(name, result.all_of(name))
    for node in reversed(graph.nodes):
        result._reader = node
        result.ask(node)
        for name in ignored[node]:
            result.need(name, result.all_of(name))
    result._reader = None
    result.complete = True
    return result


def unruled(graph: Graph) -> dict[str, int]:
    """Returns the operators of a graph that have no rule, and how often they occur."""
    return Counter(node.key for node in graph.nodes if rules.find(node.key) is None)


def retraced(known: Trace, constants: Mapping[str, Array]) -> Trace:
    """Returns what is known of a graph once some of its constants have other values of the same shapes."""
    graph = replace(known.graph, constants={**known.graph.constants, **constants})
    return trace(graph, epsilon=known.epsilon, fold=known.fold, widths=known.widths, spread=known.labels.spread)


def once(function: Callable[[Trace], _T]) -> Callable[[Trace], _T]:
    """Makes a function of a trace that is complete look at each trace once; what it returns is not to be changed."""

    @wraps(function)
    def look(known: Trace) -> _T:
        return known.once(function, lambda: function(known))

    return look


@lru_cache
def _root_of_largest(dtype: np.dtype[Any]) -> float:
    """Returns the largest number whose square is finite: 1.8e19 in float32, 255.9 in float16."""
    return math.sqrt(np.finfo(dtype).max)


@lru_cache(maxsize=64)
def _marked_alike(rank: int, mark: bool) -> Array:
    cells = np.full((1,) * rank, mark)
    cells.flags.writeable = False
    return cells


def known_values(graph: Graph, seeds: dict[str, Array]) -> dict[str, Array]:
    """Returns the tensors that follow from `seeds` and from fixed shapes alone, each in full."""
    result = Trace(graph, Labels(graph), values=dict(seeds))
    _evaluate(result)
    full = {name: result.constant(name) for name in result.values if name not in seeds and name in graph.shapes}
    return {name: np.broadcast_to(value, graph.shapes[name]) for name, value in full.items() if value is not None}


def _evaluate(result: Trace) -> None:
    values, examples = result.values.keys(), result.examples.keys()
    settled = {"", *result.graph.constants}
    for node in result.graph.nodes:
        if node.inputs and settled.issuperset(node.inputs):
            settled.update(node.outputs)
            if any(result._endless(name) for name in node.inputs):
                result.endless.update(node.outputs)
        found = rules.find(node.key)
        known = not (values.isdisjoint(node.inputs) and examples.isdisjoint(node.inputs))
        if found is None or (found.prompted and not known):
            continue
        result.rule(node).evaluate(node, result)
        if not result.tainted.isdisjoint(node.inputs):
            result.tainted.update(name for name in node.outputs if name in result.values)

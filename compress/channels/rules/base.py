"""What a rule says about one operator family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from compress.channels.cells import only_axis
from compress.channels.factors import coverage, on_axis, some
from compress.channels.graph import Array, Node, Shape

if TYPE_CHECKING:
    from compress.channels.alike import Likeness
    from compress.channels.kept import Kept
    from compress.channels.trace import Trace

_T = TypeVar("_T")
# "moves": each is one of theirs. "each": it is a function of one of theirs, the same for all but for parameters.
# "combines": of one of each input that varies, as positions are broadcast. An array: each is a sum of theirs, with the
# entries of one of its rows as factors. Shape: (outputs, factors).
Glance = Literal["moves", "each", "combines"] | Array
RuleType = TypeVar("RuleType", bound="Rule")


def once_a_node(find: Callable[[RuleType, Node, Trace], _T]) -> Callable[[RuleType, Node, Trace], _T]:
    """Makes a method of a rule, of what is known once a node is evaluated, look at each node of a trace once.

    What it returns is not to be changed.
    """

    @wraps(find)
    def look(rule: RuleType, node: Node, trace: Trace) -> _T:
        return trace.once((find, node), lambda: find(rule, node, trace))

    return look


@dataclass(frozen=True)
class NodeEdit:
    """What changes in a node beside the sizes of its tensors.

    Attributes:
        attributes: new values by attribute name; None removes one.
        inputs: new constants by input index; None removes the input.
        overrides: for an integer input that is computed: by input index, the entries to replace and their values.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[int, Array | None] = field(default_factory=dict)
    overrides: Mapping[int, tuple[Array, Array]] = field(default_factory=dict)

    @staticmethod
    def joined(*edits: NodeEdit | None) -> NodeEdit | None:
        """Returns one edit that does all of `edits`, None if there are none; they touch different inputs."""
        merged: dict[str, dict[Any, Any]] = {"attributes": {}, "inputs": {}, "overrides": {}}
        for edit in edits:
            for part, values in merged.items() if edit is not None else ():
                values.update(getattr(edit, part))
        return NodeEdit(**merged) if any(merged.values()) else None


class Rule(ABC):
    """How one operator family carries channels. A rule has no state of its own.

    Attributes:
        several_outputs: whether the rule speaks for all outputs; else a node whose further outputs are read is opaque.
        settles: whether `need` says itself what outputs of known value follow from; see `Trace.ask`.
        averages: whether `blurs` may say ``"mean"``.
        prompted: whether `evaluate` has nothing to say unless something is known of an input.
        multiplies: whether it sums products with constants, which then have to be finite.
    """

    several_outputs = False
    settles = False
    averages = False
    prompted = False
    multiplies = False

    @abstractmethod
    def label(self, node: Node, trace: Trace) -> None:
        """Sets the factors of the outputs, unifies and pins what the operator ties."""

    @abstractmethod
    def evaluate(self, node: Node, trace: Trace) -> None:
        """Sets the constant values of the outputs, where there are any."""

    @abstractmethod
    def need(self, node: Node, trace: Trace) -> None:
        """Marks the cells of the inputs that the needed cells of the outputs depend on."""

    def blurs(self, node: Node, trace: Trace) -> Literal["mean", "place by place"] | None:
        """Tells what of its input a node uses where that differs from place to place.

        ``"mean"``: nothing but the mean over all places of each channel. ``"place by place"``: each place of the result
        is the same linear function of that place, so that a mean of the result follows from the mean. None: all of it.
        """
        return None

    def glance(self, node: Node, trace: Trace) -> Glance | None:
        """Tells how each cell of the outputs is made of cells of the inputs, if a glance shows that; see `Glance`."""
        return None

    def alike(self, node: Node, trace: Trace, likeness: Likeness) -> None:
        """Sets the cells of the outputs: what is like what. By default nothing is."""
        for name in filter(None, node.outputs):
            likeness.fresh(name)

    def resize(self, node: Node, trace: Trace, kept: Kept) -> NodeEdit | None:
        """Returns what else must change once channels are gone; None if nothing does."""
        return None

    def carry(self, node: Node, trace: Trace, kept: Kept) -> tuple[int, Array] | None:
        """Returns (carrier, what its column of the weight gains) where constants that went are borne by another one.

        Zero padding shows a constant at the borders, so no bias can stand for it; another constant channel can. The
        gain has the shape of the weight without its axis of inputs.
        """
        return None

    def mute(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns which entries of the weight become zero, or None. Shape: that of the weight, booleans.

        A channel may stay for another reason while nothing makes its constant value any more; a bias stands for it.
        """
        return None

    def fold(self, node: Node, trace: Trace, kept: Kept) -> Array | None:
        """Returns what each output channel gains once constant input channels are gone, or None.

        Shape: (O,), or of the output's rank and such that it broadcasts to it.
        """
        return None


NO_CARRIERS: Array = np.zeros(0, dtype=np.int64)
# A carrier's weights grow by the ratio of what it bears to its own value; beyond this they spoil a later quantization.
_LARGEST_SHARE = 1000


def able_to_carry(inputs: Array) -> Array:
    """Returns the input channels that can bear the constants of all, the largest first.

    Args:
        inputs: the value of each, NaN where it varies. Shape: (C,).
    """
    sizes = np.where(np.isnan(inputs), 0, np.abs(inputs))
    able = np.flatnonzero((sizes > 0) & (sizes * _LARGEST_SHARE >= sizes.max(initial=0)))
    return able[np.argsort(-sizes[able], kind="stable")]


def keep_inputs(name: str, needed: Array, inputs: Array, carriers: Array, trace: Trace) -> None:
    """Marks channels of a tensor as needed; of those that are constant one carrier is enough, if there is any.

    Which carrier that is remains open here: the sweep takes one that stays anyway, or serves other readers as well.

    Args:
        name: of the tensor; its channels are axis 1.
        needed: which channels are read. Shape: (C,), booleans.
        inputs: the value of each, NaN where it varies. Shape: (C,).
        carriers: what `able_to_carry` returns, or none.
        trace: what is marked.
    """
    borne = needed & ~np.isnan(inputs)
    if carriers.size and some(borne):
        trace.keep_one(name, 1, carriers)
        needed = needed & ~borne
    trace.keep(name, on_axis(needed, 1, len(trace.graph.shapes[name])))


def muted(name: str, axis: int, weight: str, constants: Array, trace: Trace, kept: Kept) -> Array | None:
    """Returns which channels stay although nothing makes their constant value any more, or None; see `Rule.mute`.

    Args:
        name: of the tensor.
        axis: of its channels.
        weight: that the sum reads them with; one that others read as well cannot change, so all it reads is made.
        constants: which of them are constant. Shape: (C,), booleans.
        trace: what is known.
        kept: what stays.

    Returns:
        Shape: (C,), booleans.
    """
    if name not in trace.tainted or not trace.alone(weight):
        return None
    found = constants & kept.mask(name, axis) & ~only_axis(trace.asked(name), axis, constants.size)
    return found if found.any() else None


def holds_channels(name: str, axis: int, trace: Trace) -> bool:
    """Tells whether an axis tells channels apart and nothing else: no atom of a factor occurs twice."""
    return any(trace.labels.distinct(factor) for factor in trace.labels.of(name) if axis in coverage(factor))


def tells_no_places(name: str, axes: tuple[int, ...], trace: Trace) -> bool:
    """Tells whether nothing but batch and channels is told apart in a tensor once some axes are summed over."""
    shape, free = trace.graph.shapes[name], trace.graph.is_dynamic
    others = [axis for axis, size in enumerate(shape) if size > 1 and axis not in axes and not free(name, axis)]
    return all(holds_channels(name, axis, trace) for axis in others)


def pads(node: Node) -> bool:
    """Tells whether a convolution or a pooling reads beyond its input."""
    automatic = node.attributes.get("auto_pad", "NOTSET")
    automatic = automatic.decode() if isinstance(automatic, bytes) else automatic
    explicit = automatic == "NOTSET" and any(node.attributes.get("pads", ()))
    return bool(explicit or automatic.startswith("SAME") or node.attributes.get("ceil_mode", 0))


def output_shape(node: Node, trace: Trace) -> Shape:
    """Returns the shape of a node's first output."""
    return trace.graph.shapes[node.outputs[0]]

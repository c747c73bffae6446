"""A neutral view of an ONNX graph: nodes, shapes, constant values. It owns no file format and no framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]
INTEGERS = "iub"  # kinds of element types that have no NaN, truth values among them


@dataclass(frozen=True, eq=False)
class Node:
    """One operation; another one that looks the same is another one.

    Attributes:
        operator: ONNX operator type, e.g. ``"Conv"``.
        name: for messages; unique within the graph.
        inputs: tensor names; an absent optional input is ``""``.
        outputs: tensor names; an absent optional output is ``""``.
        attributes: plain Python values and arrays.
        domain: operator domain, ``""`` for ONNX's own.
        captured: outer tensors that a subgraph of this node (If, Loop, Scan) reads.
        whole: first output of the node of the file that this one is a part of; ``""`` if it is that node itself.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    captured: tuple[str, ...] = ()
    whole: str = ""

    @cached_property
    def key(self) -> str:
        """What the rule table is indexed by: the operator, with its domain unless that is ONNX's own."""
        return f"{self.domain}::{self.operator}" if self.domain else self.operator

    def input(self, index: int) -> str:
        """Returns the name of an input, ``""`` if it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True)
class Graph:
    """A graph whose every tensor has a concrete shape, or none that is known.

    Symbolic axes have been given example sizes; `dynamic` says which. Nodes stand in topological order.

    Attributes:
        nodes: the operations.
        inputs: names of the graph's inputs, initializers not among them.
        outputs: names of the graph's outputs.
        constants: initializers and constants by name.
        shapes: concrete shape by tensor name; a tensor whose shape is unknown is absent.
        dynamic: tensor name → for each axis, whether its size is an example for a symbolic one.
        elements: element type by tensor name, where one is known; of a foreign operator's result, its stand-in's.
        opset: version of ONNX's own operators.
        types: element type by tensor name, where it is known for sure.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    dynamic: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    elements: Mapping[str, np.dtype[Any]] = field(default_factory=dict)
    opset: int = 18
    types: Mapping[str, np.dtype[Any]] = field(default_factory=dict)

    def counts(self, name: str) -> bool:
        """Tells whether a tensor is known to hold integers or truth values."""
        kind = self.types.get(name)
        return kind is not None and kind.kind in INTEGERS

    def is_dynamic(self, name: str, axis: int) -> bool:
        """Tells whether the size of an axis is only an example."""
        flags = self.dynamic.get(name, ())
        return axis < len(flags) and flags[axis]


def as_array(values: object, dtype: type = np.int64) -> Array:
    """Returns integers (an attribute, a shape) as a 1-D array."""
    return np.asarray(values, dtype=dtype).reshape(-1)

"""What is known of an operator that has no rule: it may read and write anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Node
from compress.channels.rules.base import Rule

if TYPE_CHECKING:
    from compress.channels.trace import Trace


class Opaque(Rule):
    """Everything the operator touches stays, and everything it reads is needed."""

    prompted = True

    def label(self, node: Node, trace: Trace) -> None:
        for name in (*node.inputs, *node.captured):
            for factor in trace.labels.of(name) if name else ():
                trace.labels.pin(factor, node, trace.obstacle(node) or "")

    def evaluate(self, node: Node, trace: Trace) -> None:
        return None

    def need(self, node: Node, trace: Trace) -> None:
        for name in (*node.inputs, *node.captured):
            if name:
                trace.keep(name, trace.all_of(name))

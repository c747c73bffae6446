"""Operators that are known and take their inputs as a whole: nothing that they touch can go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Node
from compress.channels.rules import rules
from compress.channels.rules.base import Rule

if TYPE_CHECKING:
    from compress.channels.trace import Trace


class Whole(Rule):
    """Everything the operator touches stays, for a reason of its own.

    Args:
        reason: why.
    """

    several_outputs = True

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def label(self, node: Node, trace: Trace) -> None:
        for name in filter(None, node.inputs):
            for factor in trace.labels.of(name):
                trace.labels.pin(factor, node, self.reason)

    def evaluate(self, node: Node, trace: Trace) -> None:
        return None

    def need(self, node: Node, trace: Trace) -> None:
        for name in filter(None, node.inputs):
            trace.keep(name, trace.all_of(name))


_REASONS = {
    "its indices address single values": ("GatherElements", "GatherND", "ScatterElements", "ScatterND", "MaxUnpool"),
    "how much it picks is not known before it runs": ("Compress", "NonMaxSuppression", "NonZero", "Unique"),
    "its values are class numbers": ("OneHot",),
    "its weight is packed": ("com.microsoft::MatMulNBits", "com.microsoft::DynamicQuantizeMatMul"),
    "its scales are its own": ("com.microsoft::MatMulIntegerToFloat", "com.microsoft::QLinearSoftmax"),
    "it looks up and normalises over channels": ("com.microsoft::EmbedLayerNormalization",),
    "it turns pairs of channels": ("RotaryEmbedding", "com.microsoft::RotaryEmbedding"),
    "it moves along time or frequency": ("DFT", "STFT"),
}
for _reason, _names in _REASONS.items():
    rules.register(*_names)(Whole(_reason))

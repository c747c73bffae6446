"""Why a model did or did not shrink: for each layer, which channels hold nothing, and what keeps those that stay."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from compress.channels.cells import only_axis
from compress.channels.graph import Node
from compress.channels.sweep import sweep
from compress.channels.trace import Trace
from compress.onnx_io.file import read_model
from compress.recipe import RewriteSettings
from compress.rewrite.analysis import analyse, analysing
from compress.rewrite.blocked import Blocked, blocked_channels


@dataclass(frozen=True)
class Layer:
    """One operator with a weight.

    Attributes:
        node: its name.
        op: its operator.
        channels: that it produces.
        dead: that a rewrite removes: no output needs them.
        constant: that hold one value whatever the input, among those that stay.
        duplicate: whose weights repeat those of an earlier channel of the layer, among those that stay.
        kept: reasons of the constant ones.
    """

    node: str
    op: str
    channels: int
    dead: int
    constant: int
    duplicate: int
    kept: tuple[Blocked, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What is known of a model's channels.

    Attributes:
        layers: in the order of the graph.
        unknown: operators without a rule, and how often they occur; all that they touch stays.
    """

    layers: tuple[Layer, ...]
    unknown: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON value."""
        return {"layers": [asdict(layer) for layer in self.layers], "unknown": self.unknown}

    def markdown(self) -> str:
        """Returns a Markdown table, and the reasons below it."""
        lines = ["| layer | op | channels | dead | constant | duplicate |", "|---|---|--:|--:|--:|--:|"]
        for layer in self.layers:
            counts = (layer.channels, layer.dead, layer.constant, layer.duplicate)
            lines.append(f"| {_escaped(layer.node)} | {layer.op} | {' | '.join(map(str, counts))} |")
        reasons = [f"- {_escaped(layer.node)}: {reason(row)}" for layer in self.layers for row in layer.kept]
        lines += ["", "Constant channels that stay:", "", *reasons] if reasons else []
        names = ", ".join(f"{name} × {count}" for name, count in self.unknown.items())
        lines += ["", f"Operators without a rule, whose surroundings stay: {names}"] if names else []
        return "\n".join(lines) + "\n"


def explain(model: ModelProto | Path | str, settings: RewriteSettings | None = None) -> Explanation:
    """Tells which channels of a model are dead, constant or duplicate, and why those that hold nothing stay.

    Args:
        model: a model or a file; it is not changed.
        settings: see `RewriteSettings`.

    Raises:
        ModelFileError: if the file is not an ONNX model.
    """
    settings = settings or RewriteSettings()
    original = read_model(Path(model)) if isinstance(model, Path | str) else model
    with analysing():
        return _explained(analyse(original, settings))


def _explained(known: Trace) -> Explanation:
    kept = sweep(known)
    blocked: dict[str, list[Blocked]] = {}
    for row in blocked_channels(known):
        blocked.setdefault(row.tensor, []).append(row)
    layers = []
    producing = known.labels.producing_axes()
    for node in known.graph.nodes:
        axis = producing.get(node.input(1))
        if axis is None or node.outputs[0] not in known.graph.shapes:
            continue
        weight, output = node.inputs[1], node.outputs[0]
        size = known.graph.shapes[weight][axis]
        stays = kept.mask(weight, axis)
        rank = len(known.graph.shapes[output])
        channel_axis = 1 if node.operator.startswith("Conv") else rank - 1
        constant = ~only_axis(known.varies(output), channel_axis, size) & stays
        layers.append(
            Layer(
                node=node.name,
                op=node.operator,
                channels=size,
                dead=int((~stays).sum()),
                constant=int(constant.sum()),
                duplicate=int((_repeats(node, axis, known) & stays & ~constant).sum()),
                kept=tuple(blocked.get(output, ())),
            )
        )
    return Explanation(tuple(layers), dict(known.unknown))


def reason(row: Blocked) -> str:
    """Returns why channels stay, in words."""
    by = f" ({row.node})" if row.node else ""
    return f"{row.channels} constant channel{'s' if row.channels > 1 else ''} stay: {row.reason}{by}"


def _repeats(node: Node, axis: int, known: Trace) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns which rows of a weight, bias included, equal an earlier row. Shape: (O,)."""
    weight = known.full(node.inputs[1])
    if weight is None:
        return np.zeros(known.graph.shapes[node.inputs[1]][axis], dtype=bool)
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    bias = known.constant(node.input(2)) if node.input(2) else None
    if bias is not None and bias.size == rows.shape[0]:
        rows = np.concatenate([rows, bias.reshape(-1, 1).astype(rows.dtype)], axis=1)
    _, first = np.unique(rows, axis=0, return_index=True)
    repeated = np.ones(rows.shape[0], dtype=bool)
    repeated[first] = False
    return repeated


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

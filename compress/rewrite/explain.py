"""Why a model did or did not shrink: for each layer, which channels hold nothing, and what keeps those that stay."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from compress.channels.sweep import sweep
from compress.channels.trace import Trace
from compress.channels.widths import MINIMAL
from compress.onnx_io.analysing import analysing
from compress.onnx_io.file import model_apart, read_model
from compress.onnx_io.functions import inlined
from compress.onnx_io.weights import Parted, take_apart
from compress.recipe import RewriteSettings
from compress.rewrite.analysis import analyse
from compress.rewrite.blocked import Blocked, blocked_channels
from compress.rewrite.duplicates import Duplicates
from compress.rewrite.inner_models import inner_models
from compress.rewrite.kernel_facts import kernels_of
from compress.rewrite.rounding import Rounding, unmeasured
from compress.rewrite.weighted import weighted

_COUNTS = ("channels", "dead", "constant", "unread", "duplicate", "merged")
_OF_KERNELS = ("positions", "stripes", "columns")


@dataclass(frozen=True)
class Layer:
    """One operator with a weight.

    Attributes:
        node: its name.
        op: its operator.
        channels: that it produces.
        dead: that a rewrite removes: no output needs them.
        constant: that hold one value whatever the input, among those that stay.
        unread: that no output depends on, among those that stay.
        duplicate: that are multiples of an earlier channel of the layer, among the others.
        merged: those of them that a rewrite merges with what they are multiples of.
        rounded: that stay for nothing but rounding; they are among the constant and the unread ones.
        kept: reasons of the constant and the unread ones, and of the duplicates that are not merged.
        positions: of its kernel that hold nothing, for what stays of its channels.
        stripes: at other positions that hold nothing: of one filter, over all inputs.
        columns: at other positions that hold nothing: of one input, over all filters.
        kernel: what becomes of these.
    """

    node: str
    op: str
    channels: int
    dead: int
    constant: int
    unread: int
    duplicate: int
    merged: int
    rounded: int = 0
    kept: tuple[Blocked, ...] = ()
    positions: int = 0
    stripes: int = 0
    columns: int = 0
    kernel: str = ""


@dataclass(frozen=True)
class Explanation:
    """What is known of a model's channels.

    Attributes:
        layers: in the order of the graph.
        unknown: operators without a rule, and how often they occur; all that they touch stays.
        rounding: how the layers are rounded.
    """

    layers: tuple[Layer, ...]
    unknown: dict[str, int]
    rounding: Rounding

    @property
    def empty(self) -> tuple[str, ...]:
        """Those of `columns` in which every layer has 0."""
        return tuple(name for name in self.columns if not any(getattr(one, name) for one in self.layers))

    @property
    def columns(self) -> tuple[str, ...]:
        """The counts of a layer that a table shows; those of rounding and of kernels only where there are any."""
        rounded = ("rounded",) if self.rounding.used != "none" else ()
        return (*_COUNTS, *rounded, *(name for name in _OF_KERNELS if any(getattr(one, name) for one in self.layers)))

    def rows(self, columns: tuple[str, ...]) -> list[tuple[str | int, ...]]:
        """Returns a row a layer: name, operator, and those counts."""
        return [(one.node, one.op, *(getattr(one, name) for name in columns)) for one in self.layers]

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON value."""
        layers = [asdict(layer) for layer in self.layers]
        return {"layers": layers, "unknown": self.unknown, "rounding": asdict(self.rounding)}

    def markdown(self) -> str:
        """Returns a Markdown table, and the reasons below it."""
        lines = [f"| layer | op | {' | '.join(self.columns)} |", f"|---|---|{'--:|' * len(self.columns)}"]
        for name, op, *counts in self.rows(self.columns):
            lines.append(f"| {_escaped(str(name))} | {op} | {' | '.join(map(str, counts))} |")
        reasons = [f"- {_escaped(layer.node)}: {reason(row)}" for layer in self.layers for row in layer.kept]
        if reasons:
            lines += ["", "Channels that hold nothing, that nothing reads, or that repeat others, and that stay:", ""]
        lines += reasons
        kernels = [f"- {_escaped(layer.node)}: {layer.kernel}" for layer in self.layers if layer.kernel]
        lines += ["", "Parts of kernels that hold nothing:", "", *kernels] if kernels else []
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
    rounding = unmeasured(settings)
    with analysing():
        return _explained(model_apart(inlined(original)), settings, rounding)


def _explained(model: Parted, settings: RewriteSettings, rounding: Rounding) -> Explanation:
    """Explains the layers of a model's main graph, then those of the graphs inside its nodes."""
    known = analyse(model.skeleton, settings, model.weights)
    layers, unknown = _layers(known, settings), Counter(known.unknown)
    for inner in inner_models(model, known.graph):
        found = _explained(take_apart(inner.model), settings, rounding)
        layers += found.layers
        unknown.update(found.unknown)
    return Explanation(layers, dict(unknown), rounding)


def _layers(known: Trace, settings: RewriteSettings) -> tuple[Layer, ...]:
    kept = sweep(known)
    least = kept if known.widths == MINIMAL else sweep(replace(known, widths=MINIMAL))
    duplicates = Duplicates(known, kept)
    blocked: dict[str, list[Blocked]] = {}
    for row in blocked_channels(known):
        blocked.setdefault(row.tensor, []).append(row)
    layers, kernels = [], kernels_of(known, kept, settings)
    for one in weighted(known):
        stays, constant = one.stays(kept), one.constant(known)
        repeated = duplicates.of(one, stays & ~constant & ~one.unread(known))
        units = duplicates.units(one)[repeated]
        layers.append(
            Layer(
                node=one.node.name,
                op=one.node.operator,
                channels=stays.size,
                dead=int((~stays).sum()),
                constant=int((constant & stays).sum()),
                unread=int((one.unread(known) & stays).sum()),
                duplicate=int(repeated.sum()),
                merged=sum(unit in duplicates.gone for unit in units.tolist()),
                rounded=int((stays & ~one.stays(least)).sum()),
                kept=(*blocked.get(one.output, ()), *duplicates.kept(one.node, units)),
                **kernels.get(one.output, {}),
            )
        )
    return tuple(layers)


def reason(row: Blocked) -> str:
    """Returns why channels stay, in words."""
    by = f" ({row.node})" if row.node else ""
    what = "duplicate channels" if row.kind == "duplicate" else "channels"
    return f"{row.channels} of its {what} stay: {row.reason}{by}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""The verb: rewrite a model until no pass changes it, and prove the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs
from onnx import ModelProto
from onnx.helper import make_tensor_value_info

from compress.errors import ModelFileError
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.file import read_model, strip_metadata, write_model
from compress.recipe import RewriteSettings
from compress.rewrite.analysis import analyse
from compress.rewrite.blocked import Blocked, blocked_channels
from compress.rewrite.graph_pass import Pass
from compress.rewrite.passes import passes
from compress.rewrite.proof import Proof, prove

_FREE_INITIALIZERS = 4  # the first IR version in which initializers need not be inputs as well


_ROUNDS = 20  # a model that still changes after so many rounds has found a fault in a pass


@dataclass(frozen=True)
class RewriteResult:
    """What a rewrite did.

    Attributes:
        model: the result; the original where nothing could be proven.
        params_before, params_after: learnt numbers in the file.
        macs_before, macs_after: multiply-accumulates of one example.
        file_bytes_before, file_bytes_after: sizes of the files.
        channels_removed: rows of weights that are gone.
        max_abs_diff: largest difference of outputs on ordinary inputs.
        seconds: analysis, rewriting and proof.
        proven: whether the outputs were compared and agree; if not, `notes` says why and `model` is the original.
        blocked: zeroed or constant channels that stay, and why.
        notes: what each pass did.
    """

    model: ModelProto
    params_before: int
    params_after: int
    macs_before: int
    macs_after: int
    file_bytes_before: int
    file_bytes_after: int
    channels_removed: int
    max_abs_diff: float
    seconds: float
    proven: bool
    blocked: list[Blocked] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON value, without the model."""
        values = {name: value for name, value in vars(self).items() if name not in ("model", "blocked")}
        return values | {"blocked": [asdict(row) for row in self.blocked]}


def rewrite(model: ModelProto | Path | str, settings: RewriteSettings | None = None) -> RewriteResult:
    """Removes what no output needs from an ONNX model, exactly.

    Args:
        model: a model or a file; it is not changed.
        settings: see `RewriteSettings`.

    Returns:
        The smallest model that could be proven equal.

    Raises:
        ModelFileError: if the file is not a model that ONNX Runtime loads.
    """
    settings = settings or RewriteSettings()
    start = time.perf_counter()
    original = read_model(Path(model)) if isinstance(model, Path | str) else model
    chosen = sorted((passes.get(name) for name in passes), key=lambda p: p.order)
    try:
        analyse(original, settings)
    except ModelFileError as error:
        # Nothing is known of it, so nothing can be taken from it.
        best = _Attempt(original, [f"the original is kept: {error}"], Proof(False, reason=str(error)))
        blocked = []
    else:
        best = _proven(original, chosen, settings)
        blocked = blocked_channels(analyse(best.model, settings))
    result, notes, proof = best.model, [*best.notes, *_no_longer_inputs(original, best.model)], best.proof
    before, after = onnx_cost(original), onnx_cost(result)
    return RewriteResult(
        model=result,
        params_before=before.parameters,
        params_after=after.parameters,
        macs_before=before.macs if not before.uncounted else onnx_cost(_folded(original, settings)).macs,
        macs_after=after.macs,
        file_bytes_before=original.ByteSize(),
        file_bytes_after=result.ByteSize(),
        channels_removed=sum(int(n.split()[0]) for n in notes if n.endswith("channels removed")),
        max_abs_diff=proof.max_abs_diff,
        seconds=time.perf_counter() - start,
        proven=proof.holds,
        blocked=blocked,
        notes=notes,
    )


def rewrite_file(source: Path, target: Path, settings: RewriteSettings | None = None) -> RewriteResult:
    """Rewrites a file into another one, atomically. See `rewrite`."""
    result = rewrite(source, settings)
    write_model(result.model, target)
    return result


def _folded(original: ModelProto, settings: RewriteSettings) -> ModelProto:
    """Returns a model with its computed shapes folded: more can be counted of it."""
    try:
        return _fixpoint(original, [passes.get("drop-zero-bias"), passes.get("fold-constants")], settings)[0]
    except _PassError:
        return original


class _PassError(Exception):
    """A pass that has failed, or passes that undo each other."""


@dataclass(frozen=True)
class _Attempt:
    """What some passes have made of the original.

    Attributes:
        model: the result.
        notes: what each pass did.
        proof: how it compares with the original.
        grows: what of it is larger than the original's, or None.
    """

    model: ModelProto
    notes: list[str]
    proof: Proof
    grows: str | None = None

    @property
    def objection(self) -> str | None:
        """Why the result is not to be used, or None."""
        return self.grows if self.proof.holds else self.proof.reason


def _proven(original: ModelProto, chosen: Sequence[Pass], settings: RewriteSettings) -> _Attempt:
    """Runs the passes; where the result is not proven or is larger, leaves out the pass that is to blame."""
    whole = _attempt(original, chosen, settings)
    if whole.objection is None:
        return whole
    for blamed in reversed(chosen):
        part = _attempt(original, [one for one in chosen if one is not blamed], settings)
        if part.objection is None and (part.notes or not whole.proof.holds):
            return replace(part, notes=[*part.notes, f"pass {blamed.name} left out: {whole.objection}"])
    rest = list(chosen)
    while not whole.proof.holds and rest:
        # Several are to blame, or one for what another has done: the last first.
        left_out = rest.pop()
        part = _attempt(original, rest, settings)
        if part.objection is None and part.notes:
            return replace(part, notes=[*part.notes, f"passes from {left_out.name} on left out: {whole.objection}"])
    if whole.proof.holds:
        return _Attempt(original, [f"nothing to gain: the file is kept as it was, for {whole.grows}"], Proof(True))
    return _Attempt(original, [f"the original is kept: {whole.objection}"], whole.proof)


def _attempt(original: ModelProto, chosen: Sequence[Pass], settings: RewriteSettings) -> _Attempt:
    """Runs the passes and compares; a pass that fails proves nothing, and says why."""
    try:
        result, notes = _fixpoint(original, chosen, settings)
    except _PassError as error:
        return _Attempt(original, [], Proof(False, reason=str(error)))
    proof = prove(original, result, tolerance=settings.tolerance)
    return _Attempt(result, notes, proof, _growth(original, result) if proof.holds else None)


def _growth(original: ModelProto, result: ModelProto) -> str | None:
    before, after = onnx_cost(original), onnx_cost(result)
    sizes = {
        "parameters": (before.parameters, after.parameters),
        "multiply-accumulates": (before.macs, after.macs),
        "bytes": (original.ByteSize(), result.ByteSize()),
    }
    if before.uncounted:
        # Folding makes more shapes known: what is counted only afterwards has not been added.
        del sizes["multiply-accumulates"]
    larger = (f"{old} {unit} would become {new}" for unit, (old, new) in sizes.items() if new > old)
    return next(larger, None)


def _fixpoint(original: ModelProto, chosen: Sequence[Pass], settings: RewriteSettings) -> tuple[ModelProto, list[str]]:
    model, notes = strip_metadata(original), []
    for _ in range(_ROUNDS):
        changed = False
        for one in chosen:
            graph = gs.import_onnx(model)
            try:
                found = one.run(graph, analyse(model, settings))
                rewritten = _exported(graph, original) if found else model
            except Exception as error:  # a fault of one pass must not cost the user what the others do
                reason = " ".join(str(error).split())
                raise _PassError(f"pass {one.name} fails: {type(error).__name__}: {reason}") from error
            if found:
                changed = True
                notes += found
                model = rewritten
        if not changed:
            return model, notes
    raise _PassError(f"it did not settle after {_ROUNDS} rounds")


def _no_longer_inputs(original: ModelProto, result: ModelProto) -> list[str]:
    """Names defaults that a caller could have overridden: exporters list weights as inputs, and so they are taken."""
    left = {value.name for value in result.graph.input}
    defaults = {tensor.name for tensor in original.graph.initializer}
    gone = [value.name for value in original.graph.input if value.name in defaults and value.name not in left]
    return [f"{len(gone)} inputs with a default are weights now, {gone[0]!r} among them"] if gone else []


def _exported(graph: gs.Graph, original: ModelProto) -> ModelProto:
    graph.cleanup(remove_unused_graph_inputs=False).toposort()
    model: ModelProto = gs.export_onnx(graph, do_type_check=False)
    # A graph keeps no IR version: the original's is what its runtime took.
    model.ir_version = original.ir_version
    if model.ir_version < _FREE_INITIALIZERS:
        declared = {value.name for value in model.graph.input}
        for tensor in model.graph.initializer:
            if tensor.name not in declared:
                model.graph.input.append(make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    del model.metadata_props[:]
    model.metadata_props.extend(original.metadata_props)
    return strip_metadata(model)

"""The verb: rewrite a model until no pass changes it, and prove the result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx import ModelProto

from compress.channels.trace import Trace
from compress.errors import ModelFileError
from compress.onnx_io.cost import Cost, onnx_cost
from compress.onnx_io.file import read_model, strip_metadata, write_model
from compress.onnx_io.weights import put_together, take_apart
from compress.recipe import RewriteSettings
from compress.rewrite.analysis import analyse
from compress.rewrite.blocked import Blocked, blocked_channels
from compress.rewrite.graph_pass import Pass
from compress.rewrite.passes import passes
from compress.rewrite.proof import Proof, prove
from compress.rewrite.workpiece import Workpiece

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
    original = _Original(read_model(Path(model)) if isinstance(model, Path | str) else model, settings)
    chosen = sorted((passes.get(name) for name in passes), key=lambda p: p.order)
    try:
        known = original.trace
    except ModelFileError as error:
        # Nothing is known of it, so nothing can be taken from it.
        best = original.kept(f"the original is kept: {error}", Proof(False, reason=str(error)))
        blocked = []
    else:
        best = _proven(original, chosen, settings)
        blocked = blocked_channels(best.trace or known)
    notes, proof = [*best.notes, *_no_longer_inputs(original.model, best.model)], best.proof
    before, after = original.cost, best.cost
    return RewriteResult(
        model=best.model,
        params_before=before.parameters,
        params_after=after.parameters,
        macs_before=before.macs if not before.uncounted else original.folded_cost().macs,
        macs_after=after.macs,
        file_bytes_before=original.file_bytes,
        file_bytes_after=best.file_bytes,
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


class _PassError(Exception):
    """A pass that has failed, or passes that undo each other."""


class _Original:
    """What is to be rewritten, and what is known of it; found out once, however many passes are tried.

    Args:
        model: the original; not changed.
        settings: of the rewrite.
    """

    def __init__(self, model: ModelProto, settings: RewriteSettings) -> None:
        self.model = model
        self.settings = settings
        skeleton, self.weights = take_apart(model)
        self.skeleton = strip_metadata(skeleton)

    @cached_property
    def trace(self) -> Trace:
        """What is known of its channels. Raises ModelFileError if it cannot be analysed."""
        return analyse(self.skeleton, self.settings, self.weights)

    @cached_property
    def cost(self) -> Cost:
        """What it costs."""
        return onnx_cost(self.skeleton)

    @cached_property
    def file_bytes(self) -> int:
        """The size of its file."""
        return self.model.ByteSize()

    def workpiece(self) -> Workpiece:
        """Returns it as something for passes to work on."""
        return Workpiece(self.skeleton, self.weights, self.settings, self.trace)

    def folded_cost(self) -> Cost:
        """Returns its cost with computed shapes folded: more can be counted."""
        piece = self.workpiece()
        try:
            _fixpoint(piece, [passes.get("drop-zero-bias"), passes.get("fold-constants")], set())
        except _PassError:
            return self.cost
        return onnx_cost(piece.skeleton)

    def kept(self, note: str, proof: Proof) -> _Attempt:
        """Returns the attempt to leave it as it is."""
        return _Attempt(self.model, self.cost, self.file_bytes, [note], proof)


@dataclass(frozen=True)
class _Attempt:
    """What some passes have made of the original.

    Attributes:
        model: the result.
        cost: of the result.
        file_bytes: of the result.
        notes: what each pass did.
        proof: how it compares with the original.
        grows: what of it is larger than the original's, or None.
        trace: what is known of the result; None where it is the original.
        active: the passes that did something.
    """

    model: ModelProto
    cost: Cost
    file_bytes: int
    notes: list[str]
    proof: Proof
    grows: str | None = None
    trace: Trace | None = None
    active: frozenset[str] = frozenset()

    @property
    def objection(self) -> str | None:
        """Why the result is not to be used, or None."""
        return self.grows if self.proof.holds else self.proof.reason


def _proven(original: _Original, chosen: Sequence[Pass], settings: RewriteSettings) -> _Attempt:
    """Runs the passes; where the result is not proven or is larger, leaves out the pass that is to blame."""
    whole = _attempt(original, chosen, settings)
    if whole.objection is None:
        return whole
    # To leave out a pass that did nothing changes nothing.
    suspects = [one for one in chosen if one.name in whole.active]
    for blamed in reversed(suspects):
        part = _attempt(original, [one for one in chosen if one is not blamed], settings)
        if part.objection is None and (part.notes or not whole.proof.holds):
            return replace(part, notes=[*part.notes, f"pass {blamed.name} left out: {whole.objection}"])
    while not whole.proof.holds and suspects:
        # Several are to blame, or one for what another has done: the last first.
        left_out = suspects.pop()
        part = _attempt(original, chosen[: chosen.index(left_out)], settings)
        if part.objection is None and part.notes:
            return replace(part, notes=[*part.notes, f"passes from {left_out.name} on left out: {whole.objection}"])
    if whole.proof.holds:
        return original.kept(f"nothing to gain: the file is kept as it was, for {whole.grows}", Proof(True))
    return original.kept(f"the original is kept: {whole.objection}", whole.proof)


def _attempt(original: _Original, chosen: Sequence[Pass], settings: RewriteSettings) -> _Attempt:
    """Runs the passes and compares; a pass that fails proves nothing, and says why."""
    piece = original.workpiece()
    active: set[str] = set()
    try:
        notes = _fixpoint(piece, chosen, active)
    except _PassError as error:
        return replace(original.kept("", Proof(False, reason=str(error))), notes=[], active=frozenset(active))
    result = put_together(piece.skeleton, piece.weights)
    proof = prove(original.model, result, tolerance=settings.tolerance)
    cost = onnx_cost(piece.skeleton) if notes else original.cost
    attempt = _Attempt(result, cost, result.ByteSize(), notes, proof, None, piece.trace, frozenset(active))
    return replace(attempt, grows=_growth(original, attempt) if proof.holds else None)


def _growth(original: _Original, result: _Attempt) -> str | None:
    before, after = original.cost, result.cost
    sizes = {
        "parameters": (before.parameters, after.parameters),
        "multiply-accumulates": (before.macs, after.macs),
        "bytes": (original.file_bytes, result.file_bytes),
    }
    if before.uncounted:
        # Folding makes more shapes known: what is counted only afterwards has not been added.
        del sizes["multiply-accumulates"]
    larger = (f"{old} {unit} would become {new}" for unit, (old, new) in sizes.items() if new > old)
    return next(larger, None)


def _fixpoint(piece: Workpiece, chosen: Sequence[Pass], active: set[str]) -> list[str]:
    notes: list[str] = []
    for _ in range(_ROUNDS):
        changed = False
        for one in chosen:
            try:
                found = piece.apply(one)
            except Exception as error:  # a fault of one pass must not cost the user what the others do
                active.add(one.name)
                reason = " ".join(str(error).split())
                raise _PassError(f"pass {one.name} fails: {type(error).__name__}: {reason}") from error
            if found:
                changed = True
                active.add(one.name)
                notes += found
        if not changed:
            return notes
    raise _PassError(f"it did not settle after {_ROUNDS} rounds")


def _no_longer_inputs(original: ModelProto, result: ModelProto) -> list[str]:
    """Names defaults that a caller could have overridden: exporters list weights as inputs, and so they are taken."""
    left = {value.name for value in result.graph.input}
    defaults = {tensor.name for tensor in original.graph.initializer}
    gone = [value.name for value in original.graph.input if value.name in defaults and value.name not in left]
    return [f"{len(gone)} inputs with a default are weights now, {gone[0]!r} among them"] if gone else []

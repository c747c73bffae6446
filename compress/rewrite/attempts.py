"""What passes make of a model: the first result that is proven and no larger, some pass left out if need be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from compress.channels.trace import Trace
from compress.errors import ModelFileError
from compress.onnx_io.cost import Work, onnx_work
from compress.onnx_io.functions import inlined
from compress.onnx_io.metadata import strip_metadata
from compress.onnx_io.parts import FileParts
from compress.onnx_io.weights import Parted
from compress.recipe import RewriteSettings
from compress.rewrite.analysis import analyse
from compress.rewrite.drafts import Drafts
from compress.rewrite.fixpoint import PassError, fixpoint, opening
from compress.rewrite.graph_pass import Pass
from compress.rewrite.passes import passes
from compress.rewrite.passes.inline_branches import InlineBranches
from compress.rewrite.proof import Judge, Proof
from compress.rewrite.workpiece import Workpiece


class Original:
    """What is to be rewritten, and what is known of it; found out once, however many passes are tried.

    Args:
        model: the original; not changed.
        settings: of the rewrite.
        drafts: where a result is written before it is known whether it is proven.
    """

    def __init__(self, model: Parted, settings: RewriteSettings, drafts: Drafts | None = None) -> None:
        self.model = model
        self.settings = settings
        self.drafts = drafts or Drafts()
        self.stripped = Parted(strip_metadata(model.skeleton), model.weights)

    @cached_property
    def plain(self) -> Parted:
        """It without metadata, local functions inlined. Raises ModelFileError if they cannot be."""
        return Parted(inlined(self.stripped.skeleton), self.model.weights)

    @cached_property
    def trace(self) -> Trace:
        """What is known of its channels. Raises ModelFileError if it cannot be analysed."""
        return analyse(self.plain.skeleton, self.settings, self.plain.weights)

    @cached_property
    def cost(self) -> Work:
        """What it costs."""
        try:
            graph = self.trace.graph
        except ModelFileError:
            graph = None
        return onnx_work(self.stripped.skeleton, graph)

    def cost_beside(self, result: Attempt) -> Work:
        """Returns the cost to compare a result's with: what both count, where the result has inlined branches."""
        if not self.cost.uncounted or InlineBranches.name not in result.active:
            return self.cost
        if result.opened is not None:
            return result.opened
        piece = self.workpiece()
        try:
            fixpoint(piece, opening(passes.get(name) for name in passes), set())
        except PassError:
            return self.cost
        return piece.work

    @cached_property
    def file(self) -> FileParts:
        """Its file."""
        return FileParts(self.model)

    def workpiece(self) -> Workpiece:
        """Returns it as something for passes to work on."""
        return Workpiece(self.plain, self.settings, self.trace)

    def kept(self, note: str, proof: Proof) -> Attempt:
        """Returns the attempt to leave it as it is."""
        return Attempt(self.model, self.cost, self.file.size, [note], proof)


@dataclass(frozen=True)
class Attempt:
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
        opened: what the original costs once its branches are inlined, where that has been found out on the way.
    """

    model: Parted
    cost: Work
    file_bytes: int
    notes: list[str]
    proof: Proof
    grows: str | None = None
    trace: Trace | None = None
    active: frozenset[str] = frozenset()
    opened: Work | None = None

    @property
    def objection(self) -> str | None:
        """Why the result is not to be used, or None."""
        return self.grows if self.proof.holds else self.proof.reason


def best_attempt(original: Original, chosen: Sequence[Pass], judge: Judge) -> Attempt:
    """Runs the passes; where the result is not proven or is larger, leaves out the pass that is to blame."""
    whole = _attempt(original, chosen, judge)
    if whole.objection is None:
        return whole
    if not whole.proof.comparable:
        # Nothing else could be proven either.
        return original.kept(f"the original is kept: {whole.objection}", whole.proof)
    # To leave out a pass that did nothing changes nothing.
    suspects = [one for one in chosen if one.name in whole.active]
    if whole.proof.holds:
        smaller = _smaller(original, chosen, suspects, judge)
        if smaller is None:
            return original.kept(f"nothing to gain: the file is kept as it was, for {whole.grows}", Proof(True))
        part, names = smaller
        return replace(part, notes=[*part.notes, f"pass {names} left out: {whole.grows}"])
    for blamed in reversed(suspects):
        part = _attempt(original, [one for one in chosen if one is not blamed], judge)
        if part.objection is None:
            return replace(part, notes=[*part.notes, f"pass {blamed.name} left out: {whole.objection}"])
    while suspects:
        # Several are to blame, or one for what another has done: the last first.
        left_out = suspects.pop()
        part = _attempt(original, chosen[: chosen.index(left_out)], judge)
        if part.objection is None and part.notes:
            return replace(part, notes=[*part.notes, f"passes from {left_out.name} on left out: {whole.objection}"])
    return original.kept(f"the original is kept: {whole.objection}", whole.proof)


def _smaller(
    original: Original, chosen: Sequence[Pass], suspects: Sequence[Pass], judge: Judge
) -> tuple[Attempt, str] | None:
    """Returns the smallest result that some of the suspects reach without making anything larger; names the others.

    First all but one, each in turn; if that is not enough, one after the other as long as nothing grows.
    """
    found: list[tuple[Attempt, str]] = []

    def reached(left_out: Sequence[Pass]) -> bool:
        part = _attempt(original, [one for one in chosen if one not in left_out], judge)
        if part.objection is None and part.notes:
            found.append((part, ", ".join(one.name for one in left_out)))
        return part.objection is None

    for blamed in reversed(suspects):
        reached([blamed])
    left_out = list(suspects)
    for one in suspects if not found else ():
        rest = [other for other in left_out if other is not one]
        left_out = rest if reached(rest) else left_out
    return min(found, key=lambda one: (one[0].cost.parameters, one[0].file_bytes), default=None)


def _attempt(original: Original, chosen: Sequence[Pass], judge: Judge) -> Attempt:
    """Runs the passes and compares; a pass that fails proves nothing, and says why."""
    piece, opened = original.workpiece(), None
    active: set[str] = set()
    try:
        notes = fixpoint(piece, opening(chosen), active)
        if InlineBranches.name in active and original.cost.uncounted:
            opened = piece.work
        notes += fixpoint(piece, chosen, active, last=True)
    except PassError as error:
        return replace(original.kept("", Proof(False, reason=str(error))), notes=[], active=frozenset(active))
    result = piece.model
    file = FileParts(result)
    original.drafts.write(file)
    # Where no pass did anything, the graph is the same, and one comparison shows that it runs.
    proof = judge.prove(file, once=not notes)
    cost = piece.work if notes else original.cost
    attempt = Attempt(result, cost, file.size, notes, proof, None, piece.trace, frozenset(active), opened)
    return replace(attempt, grows=growth(original, attempt) if proof.holds else None)


def growth(original: Original, result: Attempt) -> str | None:
    """Returns what of a result is larger than the original's, in words; None if nothing is."""
    before, after = original.cost, result.cost
    sizes = {
        "parameters": (before.parameters, after.parameters),
        "multiply-accumulates": (before.macs, after.macs),
        "bytes": (original.file.size, result.file_bytes),
    }
    if before.uncounted:
        # What is counted only afterwards has not been added.
        del sizes["multiply-accumulates"]
    larger = (f"{old} {unit} would become {new}" for unit, (old, new) in sizes.items() if new > old)
    return next(larger, None)

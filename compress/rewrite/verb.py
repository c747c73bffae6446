"""The verb: rewrite a model until no pass changes it, and prove the result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from compress.artifact import folder_for, require_target
from compress.channels.trace import Trace
from compress.errors import ModelFileError
from compress.onnx_io.analysing import analysing
from compress.onnx_io.file import model_apart, read_apart, require_sound
from compress.onnx_io.runtime import prepare_runtime
from compress.onnx_io.weights import Parted
from compress.recipe import RewriteSettings
from compress.rewrite.attempts import Original
from compress.rewrite.blocked import Blocked, blocked_channels
from compress.rewrite.drafts import Drafts
from compress.rewrite.nested import best_of_all
from compress.rewrite.passes import passes
from compress.rewrite.proof import Judge, Proof
from compress.rewrite.rounding import Choice, Measure, Rounding, candidates, fastest, unmeasured
from compress.rewrite.samples import Samples, samples_for


@dataclass(frozen=True)
class RewriteResult:
    """What a rewrite did.

    Attributes:
        parted: the result, its weights apart; the original where nothing could be proven.
        params_before, params_after: learnt numbers in the file.
        macs_before, macs_after: multiply-accumulates of one example.
        file_bytes_before, file_bytes_after: sizes of the files.
        channels_removed: rows of weights that are gone.
        max_abs_diff: largest difference of outputs on ordinary inputs.
        runtime_rel_diff: where the outputs agree only without the runtime's fusions and roundings: how far the runtime
            is from itself on the original there, relative to the output's scale. None where they agree with them.
        samples: how many samples of the user's the outputs were compared on; None if none were given.
        samples_abs_diff: largest difference of outputs on these.
        seconds: analysis, rewriting and proof.
        proven: whether the outputs were compared and agree; if not, `notes` says why and `model` is the original.
        rounding: which dead channels stay because that is faster, and who says so.
        blocked: channels that stay although nothing needs them or their value is known, and why.
        notes: what each pass did.
    """

    parted: Parted
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
    rounding: Rounding
    runtime_rel_diff: float | None = None
    samples: int | None = None
    samples_abs_diff: float = 0.0
    blocked: list[Blocked] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def model(self) -> ModelProto:
        """The result as a whole, put together when it is first asked for."""
        return self.parted.model()

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON value, without the model."""
        apart = ("parted", "blocked", "rounding")
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in apart}
        return values | {"rounding": asdict(self.rounding), "blocked": [asdict(row) for row in self.blocked]}


def rewrite(
    model: ModelProto | Path | str,
    settings: RewriteSettings | None = None,
    *,
    inputs: Mapping[str, np.ndarray] | Path | str | None = None,
    measure: Measure | None = None,
) -> RewriteResult:
    """Removes what no output needs from an ONNX model, exactly.

    Args:
        model: a model or a file; it is not changed.
        settings: see `RewriteSettings`.
        inputs: real inputs to compare the outputs on, beside those that are drawn: arrays by the names of the model's
            inputs, or an `.npz` file with them; see `compress.rewrite.samples`.
        measure: times models where they will run; decides where `round_to` is auto and no target is named.

    Returns:
        The smallest model that could be proven equal; with rounding, the smallest of those that are wanted.

    Raises:
        CompressError: if nothing is known of the target that it is to be rounded for.
        ModelFileError: if the file is not a model that ONNX Runtime loads.
        DataError: if the real inputs do not fit the model.
    """
    return _result(model, settings or RewriteSettings(), inputs, measure, Drafts())


def _result(
    model: ModelProto | Path | str,
    settings: RewriteSettings,
    inputs: Mapping[str, np.ndarray] | Path | str | None,
    measure: Measure | None,
    drafts: Drafts,
) -> RewriteResult:
    """Does what `rewrite` says; results are written to `drafts` before they are proven."""
    start = time.perf_counter()
    # Its process starts while the file is read; the proof finds it ready.
    prepare_runtime()
    file = Path(model) if isinstance(model, Path | str) else None
    if isinstance(model, ModelProto):
        require_sound(model, "the model")
        parted = model_apart(model)
    else:
        parted = read_apart(Path(model), drafts.target)
    given = None
    if inputs is not None:
        given = samples_for(parted.skeleton, Path(inputs) if isinstance(inputs, str) else inputs)

    def rewritten(settings: RewriteSettings) -> RewriteResult:
        return _rewritten(parted, settings, given, file, drafts)

    if settings.round_to != "auto" or settings.target is not None or measure is None:
        return replace(rewritten(settings), seconds=time.perf_counter() - start)
    ways = candidates(settings)
    tried: dict[Choice, RewriteResult] = {"none": rewritten(ways.pop("none"))}
    if tried["none"].channels_removed:
        tried |= {choice: rewritten(one) for choice, one in ways.items()}
    choice, rounding = fastest({choice: one.model for choice, one in tried.items()}, measure)
    return replace(tried[choice], rounding=rounding, seconds=time.perf_counter() - start)


def _rewritten(
    model: Parted, settings: RewriteSettings, given: Samples | None, file: Path | None, drafts: Drafts
) -> RewriteResult:
    """Rewrites once; see `rewrite`. The seconds are left to the caller."""
    rounding = unmeasured(settings)
    original = Original(model, settings, drafts)
    wanted = (passes.get(name).configured(settings) for name in passes)
    chosen = sorted((one for one in wanted if one is not None), key=lambda p: p.order)
    # The runtime opens it meanwhile; where it refuses that, whatever the analysis says is of no use.
    with Judge(original.file, settings.tolerance, given, file) as judge:
        try:
            known = original.trace
        except ModelFileError as error:
            judge.opened()
            # Nothing is known of it, so nothing can be taken from it.
            best = original.kept(f"the original is kept: {error}", Proof(False, reason=str(error)))
            blocked = []
        else:
            judge.opened()
            best = best_of_all(original, chosen, judge)
            blocked = _blocked(best.trace or known)
    proof = best.proof
    notes = [*best.notes, *_no_longer_inputs(model.skeleton, best.model.skeleton), *_of_the_runtime(proof)]
    before, after = original.cost, best.cost
    return RewriteResult(
        parted=best.model,
        params_before=before.parameters,
        params_after=after.parameters,
        macs_before=original.cost_beside(best).macs,
        macs_after=after.macs,
        file_bytes_before=original.file.size,
        file_bytes_after=best.file_bytes,
        channels_removed=sum(int(n.split()[0]) for n in notes if n.split(",")[0].endswith("channels removed")),
        max_abs_diff=proof.max_abs_diff,
        seconds=0.0,
        proven=proof.holds,
        rounding=rounding,
        runtime_rel_diff=proof.runtime_rel_diff,
        samples=proof.samples,
        samples_abs_diff=proof.samples_abs_diff,
        blocked=blocked,
        notes=notes,
    )


def rewrite_file(
    source: Path,
    target: Path,
    settings: RewriteSettings | None = None,
    *,
    inputs: Mapping[str, np.ndarray] | Path | str | None = None,
    measure: Measure | None = None,
) -> RewriteResult:
    """Rewrites a file into another one, atomically.

    Args:
        source: the file; it stays, for the proof can only be repeated beside it.
        target: the file to write.
        settings: as for `rewrite`; the other arguments, too.
        inputs: see there.
        measure: see there.

    Raises:
        ModelFileError: if both are the same file, or the target is where the other keeps its weights.
        MachineError: if the target cannot be written.
        CompressError: as `rewrite` does.
    """
    require_target(target, source)
    with folder_for(target.parent), Drafts(target) as drafts:
        result = _result(source, settings or RewriteSettings(), inputs, measure, drafts)
        drafts.keep(result.parted)
    return result


def _blocked(known: Trace) -> list[Blocked]:
    """Returns what stays and why; nothing where the analysis does not get that far, which the passes have told."""
    try:
        with analysing():
            return blocked_channels(known)
    except ModelFileError:
        return []


def _of_the_runtime(proof: Proof) -> list[str]:
    """Says where a proof had to do without the runtime's fusions and roundings."""
    if not proof.holds or proof.runtime_rel_diff is None:
        return []
    return [
        "proven without the runtime's fusions and roundings: with them outputs differ by up to "
        f"{proof.max_rel_diff:.2g} of their scale, the original from itself by {proof.runtime_rel_diff:.2g}"
    ]


def _no_longer_inputs(original: ModelProto, result: ModelProto) -> list[str]:
    """Names defaults that a caller could have overridden: exporters list weights as inputs, and so they are taken."""
    left = {value.name for value in result.graph.input}
    defaults = {tensor.name for tensor in original.graph.initializer}
    gone = [value.name for value in original.graph.input if value.name in defaults and value.name not in left]
    return [f"{len(gone)} inputs with a default are weights now, {gone[0]!r} among them"] if gone else []

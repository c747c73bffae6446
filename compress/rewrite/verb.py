"""The verb: rewrite a model until no pass changes it, and prove the result."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from compress.errors import ModelFileError
from compress.onnx_io.file import read_model, write_model
from compress.recipe import RewriteSettings
from compress.rewrite.attempts import Original, best_attempt
from compress.rewrite.blocked import Blocked, blocked_channels
from compress.rewrite.passes import passes
from compress.rewrite.proof import Proof


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
    original = Original(read_model(Path(model)) if isinstance(model, Path | str) else model, settings)
    chosen = sorted((passes.get(name) for name in passes), key=lambda p: p.order)
    try:
        known = original.trace
    except ModelFileError as error:
        # Nothing is known of it, so nothing can be taken from it.
        best = original.kept(f"the original is kept: {error}", Proof(False, reason=str(error)))
        blocked = []
    else:
        best = best_attempt(original, chosen)
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


def _no_longer_inputs(original: ModelProto, result: ModelProto) -> list[str]:
    """Names defaults that a caller could have overridden: exporters list weights as inputs, and so they are taken."""
    left = {value.name for value in result.graph.input}
    defaults = {tensor.name for tensor in original.graph.initializer}
    gone = [value.name for value in original.graph.input if value.name in defaults and value.name not in left]
    return [f"{len(gone)} inputs with a default are weights now, {gone[0]!r} among them"] if gone else []

"""A rewrite of a model and of the graphs that its nodes hold, the innermost first.

Each inner graph is rewritten and proven as a model of its own: inputs of the whole need not reach every branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx import GraphProto

from compress.errors import ModelFileError
from compress.onnx_io.analysing import analysing
from compress.onnx_io.tensors import subgraphs
from compress.onnx_io.weights import take_apart
from compress.rewrite.attempts import Attempt, Original, best_attempt, growth
from compress.rewrite.graph_pass import Pass
from compress.rewrite.inner_models import InnerModel, inner_models, names, replaced
from compress.rewrite.proof import Judge


@dataclass(frozen=True)
class _Rewritten:
    """What has become of a graph inside a node.

    Attributes:
        place: of the graph.
        graph: the new one.
        doubled: whether a constant that something else reads as well has changed, so that there are two of it now.
        notes: what has been done.
    """

    place: tuple[int, str]
    graph: GraphProto
    doubled: bool
    notes: list[str]


def best_of_all(original: Original, chosen: Sequence[Pass], judge: Judge) -> Attempt:
    """Rewrites the graphs inside nodes, then the graph around them; see `best_attempt`.

    Raises:
        ModelFileError: if the model cannot be analysed.
    """
    inner = _inner(original, chosen)
    single = [one for one in inner if not one.doubled]
    # A constant of which there are two now may be more than the one was.
    for parts in [inner, single] if len(single) < len(inner) else [inner]:
        if not parts:
            continue
        around = replaced(original.plain, {one.place: one.graph for one in parts})
        start = Original(around, original.settings, original.drafts)
        if not judge.prove(start.file).holds:
            continue
        best = best_attempt(start, chosen, judge)
        if best.proof.holds and growth(original, best) is None:
            # Where nothing can be done around them, the inner graphs are still others.
            own = [] if best.trace is None else best.notes
            notes = [*(note for one in parts for note in one.notes), *own]
            return replace(best, notes=notes, trace=best.trace or start.trace, opened=None)
    return best_attempt(original, chosen, judge)


def _inner(original: Original, chosen: Sequence[Pass]) -> list[_Rewritten]:
    if not any(True for _ in subgraphs(original.plain.skeleton.graph.node)):
        return []
    try:
        with analysing():
            candidates = list(inner_models(original.plain, original.trace.graph))
    except ModelFileError:
        return []
    taken = names(original.plain.skeleton.graph) if candidates else set()
    found = []
    for inner in candidates:
        best = _alone(inner, original, chosen)
        if best is not None:
            graph, doubled = inner.back(best.model.model(), taken)
            found.append(_Rewritten(inner.place, graph, doubled, [f"{note}, in {inner.where}" for note in best.notes]))
    return found


def _alone(inner: InnerModel, around: Original, chosen: Sequence[Pass]) -> Attempt | None:
    """Rewrites one inner graph; None where nothing is gained, or where it cannot be run by itself."""
    try:
        single = Original(take_apart(inner.model), around.settings)
        with analysing(), Judge(single.file, around.settings.tolerance) as judge:
            best = best_of_all(single, chosen, judge)
    except ModelFileError:
        return None
    return best if best.proof.holds and best.trace is not None and best.notes else None

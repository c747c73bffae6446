"""The analysis that every part of the rewriter starts from."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto

from compress.channels.graph import Array
from compress.channels.kept import Kept
from compress.channels.remaining import remaining
from compress.channels.trace import Trace, completed, evaluated, trace
from compress.onnx_io.analysing import analysing
from compress.onnx_io.graph import channel_graph
from compress.recipe import RewriteSettings
from compress.rewrite.rounding import policy


def analyse(
    model: ModelProto,
    settings: RewriteSettings,
    weights: Mapping[str, Array] | None = None,
    kept: Kept | None = None,
    *,
    whole: bool = True,
) -> Trace:
    """Returns what is known of a model's channels.

    Args:
        model: a checked model; not changed.
        settings: what counts as zero, and what is rounded.
        weights: the data of tensors that hold none of their own, see `compress.onnx_io.weights`.
        kept: what remains of the model that this one was, where that is known.
        whole: whether more than values is wanted.

    Raises:
        CompressError: if nothing is known of the target that it is to be rounded for.
        ModelFileError: if the model says something that cannot be; a checker lets much of that pass.
    """
    with analysing():
        graph = channel_graph(model, weights, kept.sized if kept else None)
        known = remaining(kept, graph) if kept else None
        if known is not None:
            return known
        find = trace if whole else evaluated
        return find(graph, epsilon=settings.epsilon, widths=policy(settings), spread=True)


def complete(known: Trace) -> Trace:
    """Returns what is known of a model's channels, of which there may be no more than values yet.

    Raises:
        ModelFileError: as `analyse` does.
    """
    with analysing():
        return known if known.complete else completed(known)

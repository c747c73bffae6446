"""From a recipe's regularizer to what takes part in the training."""

from __future__ import annotations

from torch import nn

from compress.channels.groups import Groups
from compress.channels.trace import trace
from compress.errors import RecipeError
from compress.options import build
from compress.prune.regularizers import regularizers
from compress.recipe import MethodSettings
from compress.torch_graph import trace_network
from compress.train.hooks import Hook


def bind_regularizer(network: nn.Module, input_shape: tuple[int, ...], settings: MethodSettings) -> Hook:
    """Returns the regularizer that a recipe names, for one network.

    Args:
        network: that will be trained.
        input_shape: of one example, without the batch axis.
        settings: id, strength and knobs.

    Raises:
        CompressError: if the id is unknown.
        RecipeError: if one of its options is, or it has no use for the strength that is given.
        NetworkError: if the network cannot be traced, or has nothing that the regularizer acts on.
    """
    method = build(regularizers, settings.name, settings.options)
    if not method.uses_strength and "strength" in settings.model_fields_set:
        raise RecipeError(
            f"regularizer {settings.name!r} adds nothing to the loss: strength means nothing to it",
            next_step="leave it out, and set the rate in options",
        )
    traced = trace_network(network, input_shape)
    return method.bind(network, Groups(trace(traced.graph, fold=False), traced.parameters), settings.strength)

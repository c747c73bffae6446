"""A torch network as an ONNX graph in which every parameter keeps its own name.

This is the bridge of the product: what is found on the graph (groups, dead channels, costs) is said in names of
parameters, so it can be done to the torch network.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from onnx import ModelProto
from torch import nn

from compress.channels.graph import Graph
from compress.errors import NetworkError
from compress.onnx_io.graph import channel_graph


@dataclass(frozen=True)
class TracedNetwork:
    """A network's graph.

    Attributes:
        graph: the channel graph; its constants hold the parameters' values at the time.
        parameters: the names of parameters and buffers that the graph computes with.
    """

    graph: Graph
    parameters: list[str]


def to_onnx(
    network: nn.Module, input_shape: tuple[int, ...], *, opset: int = 18, dynamic_batch: bool = True
) -> ModelProto:
    """Exports a network in evaluation mode; its state is left as it was.

    Args:
        network: the network.
        input_shape: of one example, without the batch axis, e.g. (C, H, W).
        opset: version of the ONNX operators.
        dynamic_batch: whether the batch axis is left free.

    Raises:
        NetworkError: if the exporter cannot follow the network.
    """
    example = torch.zeros(2 if dynamic_batch else 1, *input_shape)
    shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    with evaluating(network), _quiet():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                optimize=False,  # the optimizer folds BatchNorm and renames parameters
                opset_version=opset,
                dynamic_shapes=shapes,
                input_names=["input"],
                output_names=["output"],
                verbose=False,
            )
        except Exception as error:
            reason = str(error.__cause__ or error).strip().splitlines()
            raise NetworkError(
                f"the network cannot be exported: {reason[0] if reason else type(error).__name__}",
                next_step="see that forward() takes one tensor and has no data-dependent branches",
            ) from error
    if program is None:
        raise NetworkError("the network cannot be exported: the exporter returned nothing")
    return program.model_proto


def trace_network(network: nn.Module, input_shape: tuple[int, ...]) -> TracedNetwork:
    """Returns the graph of a network, with every parameter under its own name.

    Raises:
        NetworkError: if a parameter has no exact counterpart in the graph; it is named.
    """
    model = to_onnx(network, input_shape)
    graph = channel_graph(model)
    state: dict[str, torch.Tensor] = dict(network.named_parameters(remove_duplicate=False))
    state |= dict(network.named_buffers(remove_duplicate=False))
    used = [
        name for name in state if name in graph.constants and graph.constants[name].shape == tuple(state[name].shape)
    ]
    storages = {state[name].data_ptr() for name in used}
    for name, tensor in state.items():
        counter = name.rpartition(".")[2] == "num_batches_tracked"
        if name not in used and not counter and tensor.data_ptr() not in storages:
            raise NetworkError(
                f"parameter {name!r} has no counterpart in the network's graph",
                next_step="remove it from the network if forward() does not use it",
            )
    return TracedNetwork(graph, used)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode on the CPU's terms, and each module back into its own mode afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's remarks, and its listings of what it could not follow, away from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

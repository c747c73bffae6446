"""Cutting channels out of a torch network: smaller parameters, the same function.

A cut is a `Plan`. `compact` does it and checks it, `apply_plan` does it alone; `plan_of_zeros` finds the plan of a
network whose channels have been zeroed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.channels.plan import Plan
from compress.channels.sweep import sweep
from compress.channels.trace import trace
from compress.errors import NetworkError
from compress.torch_graph import trace_network

# Largest difference between a masked and a compacted network, relative to the larger of 1 and the largest output.
_TOLERANCE = 1e-5
_WAY_OUT = (
    "take sizes from tensors in forward(), e.g. x.flatten(1); or leave it as it is and cut the ONNX file instead: "
    "`compress export` the masked checkpoint (pruned.safetensors of the run), then `compress rewrite` it"
)


def plan_of_zeros(network: nn.Module, input_shape: tuple[int, ...]) -> Plan:
    """Returns the plan that removes every channel which, with the weights as they are, adds exactly nothing.

    Only true zeros count, and no constant is folded: a network in training keeps its function for every further step.

    Args:
        network: the network.
        input_shape: of one example, without the batch axis.
    """
    traced = trace_network(network, input_shape)
    return Plan.from_kept(sweep(trace(traced.graph, fold=False)), traced.parameters)


def compact(network: nn.Module, plan: Plan, input_shape: tuple[int, ...], *, seed: int = 0) -> float:
    """Cuts a masked network by its plan, and checks that it still computes the same.

    Args:
        network: what goes is zero in it already; it is cut in place.
        plan: what remains.
        input_shape: of one example, without the batch axis.
        seed: of the inputs of the check.

    Returns:
        the largest difference of the outputs.

    Raises:
        NetworkError: if the cut network cannot run, or computes something else.
    """
    images = torch.randn(8, *input_shape, generator=torch.Generator().manual_seed(seed))
    network.eval()
    with torch.inference_mode():
        expected = network(images)
    apply_plan(network, plan)
    with torch.inference_mode():
        found = run_cut(network, images)
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise NetworkError(
            "the compacted network does not compute what the masked network computes",
            got=f"a difference of {difference:.3g}",
            next_step=_WAY_OUT,
        )
    return difference


def run_cut(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Returns the outputs of a network that `apply_plan` has cut.

    Args:
        network: cut.
        images: [N, C, H, W].

    Raises:
        NetworkError: if it cannot run at its new sizes.
    """
    try:
        outputs: torch.Tensor = network(images)
    except Exception as error:
        lines = str(error).splitlines()
        raise NetworkError(
            "the compacted network cannot run, its forward() has channel numbers of its own "
            f"({lines[0] if lines else type(error).__name__})",
            next_step=_WAY_OUT,
        ) from error
    return outputs


def apply_plan(network: nn.Module, plan: Plan) -> None:
    """Slices parameters and buffers in place, and tells each module its new sizes.

    Args:
        network: the network that the plan belongs to.
        plan: what remains.

    Raises:
        NetworkError: if the plan names a parameter that the network does not have.
        ModelFileError: if it names a position that a parameter does not have.
    """
    tensors = dict(network.named_parameters(remove_duplicate=False)) | dict(
        network.named_buffers(remove_duplicate=False)
    )
    # Tied parameters are one tensor under several names: each is sliced once, and stays tied.
    replaced: dict[int, torch.Tensor] = {}
    for name in plan.keep:
        if name not in tensors:
            raise NetworkError(
                f"the plan names parameter {name!r}, which this network lacks",
                next_step="use the network that the plan was made from",
            )
        replaced[id(tensors[name])] = _sliced(tensors[name], plan, name)
    changed: set[str] = set()
    for name, tensor in tensors.items():
        if id(tensor) in replaced:
            path, _, attribute = name.rpartition(".")
            module = network.get_submodule(path)
            new = replaced[id(tensor)]
            if isinstance(tensor, nn.Parameter):
                setattr(module, attribute, new)
            else:
                module._buffers[attribute] = new
            changed.add(path)
    for path in changed:
        _resize(network.get_submodule(path))


def _sliced(tensor: torch.Tensor, plan: Plan, name: str) -> torch.Tensor:
    index = torch.from_numpy(plan.apply(name, np.arange(tensor.numel()).reshape(tensor.shape)).copy())
    new = tensor.detach().contiguous().reshape(-1)[index.to(tensor.device)]
    return nn.Parameter(new, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new


def _resize(module: nn.Module) -> None:
    for kind, resize in _RESIZERS.items():
        if isinstance(module, kind):
            resize(module)
            return


def _convolution(module: Any) -> None:
    weight = module.get_parameter("weight")
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    outputs, inputs = (weight.shape[1], weight.shape[0]) if transposed else (weight.shape[0], weight.shape[1])
    depthwise = module.groups == module.in_channels and module.groups > 1
    if transposed:
        module.groups = inputs if depthwise else module.groups
        module.in_channels, module.out_channels = inputs, outputs * int(module.groups)
    else:
        multiplier = int(module.out_channels) // int(module.in_channels) if depthwise else 1
        module.groups = outputs // multiplier if depthwise else module.groups
        module.in_channels, module.out_channels = inputs * int(module.groups), outputs


def _linear(module: Any) -> None:
    module.out_features, module.in_features = module.get_parameter("weight").shape


def _batch_norm(module: Any) -> None:
    tensor = next((t for t in (*module.parameters(False), *module.buffers(False)) if t.ndim == 1), None)
    if tensor is not None:
        module.num_features = tensor.shape[0]


def _embedding(module: Any) -> None:
    module.num_embeddings, module.embedding_dim = module.get_parameter("weight").shape


def _prelu(module: Any) -> None:
    module.num_parameters = module.get_parameter("weight").shape[0]


# What torch's own modules remember of their sizes. Networks' own modules should read sizes off their tensors.
_RESIZERS: dict[type[nn.Module], Callable[[Any], None]] = {
    nn.modules.conv._ConvNd: _convolution,
    nn.Linear: _linear,
    nn.modules.batchnorm._NormBase: _batch_norm,
    nn.Embedding: _embedding,
    nn.PReLU: _prelu,
}

"""Importance of a layer's inputs, passed back to every earlier response through the magnitudes of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from compress.errors import NetworkError
from compress.prune.problem import PruningProblem

# What hands on the importance of a response to the one value it is made of.
_ACTIVATIONS = frozenset(
    f"{name}{suffix}"
    for suffix in ("", "_")
    for name in (
        *("relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid"),
        *("tanh", "hardtanh", "hardswish", "hardsigmoid", "softplus", "softsign", "logsigmoid", "clamp", "threshold"),
    )
)
_POOLS: dict[str, Callable[..., Tensor]] = {
    "max_pool1d": functional.avg_pool1d,
    "max_pool2d": functional.avg_pool2d,
    "max_pool3d": functional.avg_pool3d,
}
_TOLERANCE = 1e-6


class _Linear(TorchFunctionMode):
    """Activations hand on what they get; a maximum counts as the mean of its window."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in _ACTIVATIONS:
            return args[0] if args else kwargs["input"]
        if name in _POOLS:
            return _mean_of(_POOLS[name], *args, **kwargs)
        return func(*args, **kwargs)


def _mean_of(
    pool: Callable[..., Tensor],
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if return_indices or any(step != 1 for step in (dilation if isinstance(dilation, Sequence) else [dilation])):
        raise NetworkError("importance cannot be passed back through a dilated pooling, or one that returns indices")
    return pool(input, kernel_size, stride or None, padding, ceil_mode)


def pass_back(problem: PruningProblem, final: str, importance: Tensor, producers: Sequence[str]) -> dict[str, Tensor]:
    """Returns Σ over positions of the importance of what some layers compute, by channel.

    A response has Σ |w| · importance over all that it enters, w the factor with which it does: a weight, or the scale
    and the inverse deviation of a BatchNorm.

    Args:
        problem: the network.
        final: path of the module whose inputs' importance is known.
        importance: of one example's inputs, of their shape with a batch of 1; not negative.
        producers: names of weights.

    Returns:
        Float64 [O] for each name.

    Raises:
        NetworkError: if a weight is not that of a layer, or the network multiplies or normalises responses with one
            another, where magnitudes of weights say nothing.
    """
    network = copy.deepcopy(problem.network).double().requires_grad_(True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(2):
        image = torch.randn(1, *problem.input_shape, generator=generator, dtype=torch.float64)
        image = image.to(importance.device)
        found.append(_gradients(network, image, final, importance, {n: _owner(problem, n) for n in producers}))
    for name, value in found[0].items():
        if not torch.allclose(value, found[1][name], rtol=_TOLERANCE, atol=_TOLERANCE * float(value.abs().max())):
            raise NetworkError(
                f"importance cannot be passed back to {name!r}: what follows multiplies or normalises responses",
                next_step="choose method 'taylor'",
            )
    return found[0]


def _gradients(
    network: nn.Module, image: Tensor, final: str, importance: Tensor, owners: dict[str, str]
) -> dict[str, Tensor]:
    """Returns the gradient of importance · inputs of `final`: the network is linear, so that it is the passing back."""
    outputs: dict[str, list[Tensor]] = {path: [] for path in owners.values()}
    inputs: list[Tensor] = []

    def keep(path: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            outputs[path].append(output)
            # What follows may change it in place.
            return output.clone()

        return hook

    handles = [network.get_submodule(path).register_forward_hook(keep(path)) for path in outputs]
    handles.append(network.get_submodule(final).register_forward_pre_hook(lambda _module, args: inputs.append(args[0])))
    try:
        with _Linear():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    total = torch.stack([(importance * one).sum() for one in inputs]).sum()
    tensors = [tensor for path in outputs for tensor in outputs[path]]
    gradients = torch.autograd.grad(total, tensors, allow_unused=True, materialize_grads=True)
    by_tensor = {id(tensor): gradient for tensor, gradient in zip(tensors, gradients, strict=True)}
    return {
        name: torch.stack([_by_channel(network.get_submodule(path), by_tensor[id(t)]) for t in outputs[path]]).sum(0)
        for name, path in owners.items()
    }


def _by_channel(module: nn.Module, gradient: Tensor) -> Tensor:
    axis = gradient.ndim - 1 if isinstance(module, nn.Linear) else 1
    return gradient.abs().movedim(axis, 0).flatten(1).sum(1)


def _owner(problem: PruningProblem, parameter: str) -> str:
    path, _, attribute = parameter.rpartition(".")
    module = problem.network.get_submodule(path)
    if attribute != "weight" or not isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        raise NetworkError(
            f"importance cannot be passed back to {parameter!r}",
            allowed="weights of convolutions and linear layers",
            next_step=f"leave {parameter!r} out in [prune] exclude, or choose method 'taylor'",
        )
    return path

"""What layers read: the inputs of convolutions and linear layers, as rows that their weights are multiplied with.

A row x of a layer's inputs is a patch of a convolution, or an entry of a linear layer's batch; y = W x. A convolution
of g groups is g layers side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.channels.graph import Array
from compress.errors import NetworkError
from compress.prune.problem import PruningProblem, images_and_labels

_BATCH = 16  # images whose patches are held at once
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer, by its weight.

    Attributes:
        parameter: name of the weight, [O, I/g, …].
        groups: g, of the convolution; 1 for a linear layer.
        modules: paths of the modules that share the weight.
    """

    parameter: str
    groups: int
    modules: tuple[str, ...]

    def rows(self, weight: Array) -> Array:
        """Returns a weight as [g, O/g, D], D = I/g · taps."""
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)


def layer_of(problem: PruningProblem, parameter: str) -> Layer:
    """Returns the layer whose weight is called `parameter`.

    Raises:
        NetworkError: if it is not the weight of a convolution or a linear layer, called as a module.
    """
    tensor = problem.tensor(parameter)
    found = {
        path: module
        for path, module in problem.network.named_modules()
        if isinstance(module, _LAYERS) and module.weight is tensor
    }
    if not found:
        raise NetworkError(
            f"what {parameter!r} reads cannot be recorded",
            allowed="weights of Conv1d, Conv2d, Conv3d and Linear modules",
            next_step="leave what it reads and itself out in [prune] exclude, or choose method 'taylor'",
        )
    module = next(iter(found.values()))
    groups = 1 if isinstance(module, nn.Linear) else module.groups
    return Layer(parameter, groups, tuple(found))


def columns(module: nn.Module, x: Tensor) -> Tensor:
    """Returns what each output of a layer is a product with.

    Args:
        module: a convolution or a linear layer.
        x: its input, [N, C, …] or [N, …, I].

    Returns:
        [N, P, g, D] for P positions; D in the order of the weight's axes.
    """
    if isinstance(module, nn.Linear):
        return x.reshape(x.shape[0], -1, 1, x.shape[-1])
    assert isinstance(module, nn.modules.conv._ConvNd)
    sides = module._reversed_padding_repeated_twice
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = functional.pad(x, list(sides), mode=mode) if any(sides) else x
    for axis, (size, stride, dilation) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True)
    ):
        x = x.unfold(2 + axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    n, channels = x.shape[:2]
    dims = len(module.kernel_size)
    positions, taps = int(np.prod(x.shape[2 : 2 + dims])), int(np.prod(x.shape[2 + dims :]))
    x = x.reshape(n, module.groups, channels // module.groups, positions, taps)
    return x.permute(0, 3, 1, 2, 4).reshape(n, positions, module.groups, -1)


def read(problem: PruningProblem, layer: Layer, network: nn.Module | None = None) -> Iterator[list[Tensor]]:
    """Yields what a layer reads, a few images at a time: for each of its calls [N, P, g, D].

    Args:
        problem: with samples.
        layer: of the problem's network.
        network: another one with such a layer; default: the problem's.

    Raises:
        DataError: if there are no samples.
    """
    images, _ = images_and_labels(problem)
    for first in range(0, len(images), _BATCH):
        yield _inputs(network or problem.network, layer, images[first : first + _BATCH])


def _inputs(network: nn.Module, layer: Layer, images: Tensor) -> list[Tensor]:
    found: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        found.append(columns(module, args[0] if args else kwargs["input"]))

    handles = [
        network.get_submodule(path).register_forward_pre_hook(record, with_kwargs=True) for path in layer.modules
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def readers(problem: PruningProblem, index: int) -> Iterator[tuple[Layer, Array]]:
    """Yields the layers that read a group, and for each of their columns its unit within the group, -1: of none.

    Raises:
        NetworkError: if units that may go are read by something that is no such layer, or by nothing.
    """
    group = problem.groups.groups[index]
    members = problem.members(group, "in")
    may_go = problem.groups.split(problem.prunable)[index]
    if not may_go.any():
        return
    read_by = np.zeros(group.size, dtype=bool)
    for member in members:
        read_by[member.unit[member.unit >= 0]] = True
        layer = layer_of(problem, member.parameter)
        yield layer, column_units(problem, member.parameter, member.unit)
    if (may_go & ~read_by).any():
        raise NetworkError(
            f"channel group {group.name!r} has channels that no convolution or linear layer reads",
            next_step=f"leave {group.name!r} out in [prune] exclude, or choose method 'filter-l1'",
        )


def column_units(problem: PruningProblem, parameter: str, unit: Array) -> Array:
    """Returns the unit of each column of a weight, from that of each input channel. Shape: (D,)."""
    taps = problem.tensor(parameter)[0, 0].numel()
    return np.repeat(unit, taps)


def final_inputs(problem: PruningProblem) -> tuple[str, Tensor]:
    """Returns the path of the convolution or linear layer that is called last, and its inputs [N, …] on all samples.

    Raises:
        DataError: if there are no samples.
        NetworkError: if the network has no such layer.
    """
    paths = [p for p in call_order(problem) if isinstance(problem.network.get_submodule(p), _LAYERS)]
    if not paths:
        raise NetworkError("the network has no convolution or linear layer", next_step="choose method 'taylor'")
    found: list[Tensor] = []
    images, _ = images_and_labels(problem)
    handle = problem.network.get_submodule(paths[-1]).register_forward_pre_hook(lambda _, args: found.append(args[0]))
    try:
        with torch.no_grad():
            for first in range(0, len(images), _BATCH):
                problem.network(images[first : first + _BATCH])
    finally:
        handle.remove()
    return paths[-1], torch.cat(found)


def call_order(problem: PruningProblem) -> list[str]:
    """Returns the paths of the modules in the order in which they are called."""
    images, _ = images_and_labels(problem)
    called: list[str] = []

    def record(path: str) -> Callable[[nn.Module, object], None]:
        return lambda _module, _args: called.append(path)

    handles = [module.register_forward_pre_hook(record(path)) for path, module in problem.network.named_modules()]
    try:
        with torch.no_grad():
            problem.network(images[:2])
    finally:
        for handle in handles:
            handle.remove()
    return called

"""What layers read: second moments of their inputs, and weights refitted to them when inputs go.

With rows x of a layer's inputs (a patch of a convolution, an entry of a linear layer's batch) and y = W x, all that
least squares asks of the data are E[x xᵀ] and E[x yᵀ]. A convolution of g groups is g layers side by side.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.channels.graph import Array
from compress.errors import NetworkError
from compress.prune.masks import ChannelMask
from compress.prune.problem import PruningProblem, images_and_labels, places

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


@dataclass(frozen=True)
class Moments:
    """Second moments of what a layer reads, means over samples and positions.

    Attributes:
        gram: E[x xᵀ] of what it reads now. Shape: [g, D, D], float64.
        cross: E[x yᵀ] with what it computes in the whole network, bias not counted. Shape: [g, D, O/g].
    """

    gram: Array
    cross: Array


Solve = Callable[[Moments, Array, Array, Array], Array]


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


def moments(
    problem: PruningProblem, layer: Layer, *, cut: nn.Module | None = None, positions: int | None = None
) -> Moments:
    """Returns the second moments of what a layer reads.

    Args:
        problem: with samples.
        layer: of the problem's network.
        cut: the network as it is now, whose inputs count; outputs are always those of the problem's network.
        positions: drawn from each image; default: all.

    Raises:
        DataError: if there are no samples.
    """
    draw = np.random.default_rng(problem.seed)
    weight = torch.from_numpy(layer.rows(problem.array(layer.parameter)))  # [g, O/g, D]
    size = weight.shape[2]
    gram = torch.zeros(layer.groups, size, size, dtype=torch.float64)
    cross = torch.zeros(layer.groups, size, weight.shape[1], dtype=torch.float64)
    count = 0
    wholes = read(problem, layer)
    nows = wholes if cut is None else read(problem, layer, cut)
    for whole in wholes:
        now = whole if cut is None else next(nows)
        for before, after in zip(whole, now, strict=True):
            n, p = before.shape[:2]
            chosen = draw.random((n, p)).argsort(axis=1)[:, :positions]
            index = (torch.arange(n)[:, None], torch.from_numpy(chosen))
            # Rows of all images, group by group: [g, R, D].
            then, x = (t.cpu()[index].flatten(0, 1).movedim(1, 0).double() for t in (before, after))
            gram += x.mT @ x
            cross += x.mT @ (then @ weight.mT)
            count += x.shape[1]
    return Moments((gram / max(count, 1)).numpy(), (cross / max(count, 1)).numpy())


def damped(gram: Array, share: float) -> Array:
    """Returns gram + λI, λ = `share` of the mean of its diagonal: it can be inverted whatever the inputs are."""
    size = gram.shape[-1]
    scale = np.trace(gram, axis1=-2, axis2=-1) / size
    ridge = np.maximum(share * scale, np.finfo(np.float64).tiny ** 0.5)
    found: Array = gram + ridge[..., None, None] * np.eye(size)
    return found


def unit_gram(gram: Array, rows: Array, unit: Array, size: int) -> Array:
    """Returns Σ_o E[z_oc z_oc'], z_oc what unit c contributes to output o; the last row and column are of no unit.

    Args:
        gram: [g, D, D].
        rows: weight, [g, O/g, D].
        unit: of each column, -1: of none. Shape: (D,).
        size: number of units.

    Returns:
        [size + 1, size + 1].
    """
    products = ((rows.swapaxes(1, 2) @ rows) * gram).sum(axis=0)
    member = np.eye(size + 1)[unit]
    found: Array = member.T @ products @ member
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
        yield layer, _column_units(problem, member.parameter, member.unit)
    if (may_go & ~read_by).any():
        raise NetworkError(
            f"channel group {group.name!r} has channels that no convolution or linear layer reads",
            next_step=f"leave {group.name!r} out in [prune] exclude, or choose method 'filter-l1'",
        )


def _column_units(problem: PruningProblem, parameter: str, unit: Array) -> Array:
    taps = problem.tensor(parameter)[0, 0].numel()
    return np.repeat(unit, taps)


def rebuild(problem: PruningProblem, keep: Array, solve: Solve, positions: int | None = None) -> dict[str, Array]:
    """Refits each layer that loses inputs, in the order in which the network calls them.

    A layer is fitted to what the whole network's layer computes, from what it reads once the layers before it have
    been cut and refitted: it makes up for their errors too.

    Args:
        problem: with samples.
        keep: which units remain, over all groups in turn. Shape: (units,), booleans.
        solve: from the moments, the weight [g, O/g, D], which columns remain (booleans), and the unit of each column
            over all groups in turn (-1: of none) to the new weight [g, O/g, D].
        positions: drawn from each image; default: all.

    Returns:
        New weights by name.
    """
    cut = copy.deepcopy(problem.network)
    mask = ChannelMask(problem.groups, keep)
    mask.apply(cut)
    present = np.append(keep, True)
    losing: dict[int, tuple[Layer, Array]] = {}
    for place in places(problem.groups):
        if place.role == "in" and not present[place.unit].all():
            # Names of one weight are one layer.
            tensor = problem.tensor(place.parameter)
            unit = _column_units(problem, place.parameter, place.unit)
            losing.setdefault(id(tensor), (layer_of(problem, place.parameter), unit))
    values = {}
    for layer, unit in _in_order(problem, list(losing.values())):
        whole = problem.array(layer.parameter)
        found = solve(
            moments(problem, layer, cut=cut, positions=positions), layer.rows(whole), present[unit], unit
        ).reshape(whole.shape)
        with torch.no_grad():
            cut.get_parameter(layer.parameter).copy_(torch.from_numpy(found))
        mask.apply(cut)
        values[layer.parameter] = found
    return values


def final_inputs(problem: PruningProblem) -> tuple[str, Tensor]:
    """Returns the path of the convolution or linear layer that is called last, and its inputs [N, …] on all samples.

    Raises:
        DataError: if there are no samples.
        NetworkError: if the network has no such layer.
    """
    paths = [p for p in _called(problem) if isinstance(problem.network.get_submodule(p), _LAYERS)]
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


def _called(problem: PruningProblem) -> list[str]:
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


def _in_order(problem: PruningProblem, layers: list[tuple[Layer, Array]]) -> list[tuple[Layer, Array]]:
    called = _called(problem)
    return sorted(layers, key=lambda entry: min(called.index(path) for path in entry[0].modules))

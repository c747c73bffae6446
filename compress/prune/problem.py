"""What every pruning method is given: a network, its channel groups, their cost, and fixed training samples."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.cost import CostModel
from compress.channels.graph import Array
from compress.channels.groups import ChannelGroup, Groups, Member
from compress.channels.trace import trace
from compress.channels.widths import MINIMAL, Site, WidthPolicy, multiples, sites
from compress.errors import DataError, NetworkError, suggestion
from compress.prune.parametrized import bake
from compress.torch_graph import trace_network


@dataclass(frozen=True)
class Samples:
    """Fixed training samples.

    Attributes:
        images: float32, [N, C, H, W], as the network takes them.
        labels: int64, [N].
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.images) == 0 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                "samples for pruning do not match",
                got=f"{len(self.images)} images, labels of shape {tuple(self.labels.shape)}",
                allowed="at least one image, and one label for each",
            )


@dataclass(frozen=True)
class Stratum:
    """Units of one group that pass exactly the same parameters; their number is each of those layers' own.

    Most groups are one stratum. Where a shortcut pads with channels of zeros, the later layers have units that the
    earlier ones lack: a share, a minimum, or a multiple is counted in each stratum, so that it holds in every layer.

    Attributes:
        group: index of the group.
        units: numbers over all groups in turn, ascending.
        prunable: whether they may go; if not, all stay.
        suited: how many of them may stay, ascending: numbers to which it pays to prune on the target, and all.
    """

    group: int
    units: Array
    prunable: bool
    suited: Array


@dataclass(frozen=True)
class PruningProblem:
    """A network, and the units that may be taken from it.

    Units are numbered over all groups in turn; `groups.split` cuts an array over them into one a group.

    Attributes:
        network: a copy of the user's, in evaluation mode. Methods leave it as it is.
        input_shape: of one example, without the batch axis.
        groups: all channel groups.
        cost: parameters and multiply-accumulates as a function of the units that remain.
        parameters: names of the parameters and buffers that the graph computes with.
        samples: fixed training samples.
        seed: of every random choice.
        prunable: which units may go. Shape: (units,), booleans.
        weights: names of the weights of convolutions and linear layers, without those of `exclude`.
        widths: which numbers of channels suit the machine that the network is for.
        element: what convolutions compute with there.
    """

    network: nn.Module
    input_shape: tuple[int, ...]
    groups: Groups
    cost: CostModel
    parameters: list[str]
    samples: Samples | None
    seed: int
    prunable: Array
    weights: tuple[str, ...]
    widths: WidthPolicy = MINIMAL
    element: str = "float32"

    @classmethod
    def of(
        cls,
        network: nn.Module,
        input_shape: tuple[int, ...],
        samples: Samples | None,
        seed: int,
        *,
        exclude: Sequence[str] = (),
        couple: bool = True,
        widths: WidthPolicy = MINIMAL,
        element: str = "float32",
    ) -> PruningProblem:
        """Finds the groups of a network.

        Args:
            network: it is left as it was.
            input_shape: of one example, without the batch axis.
            samples: fixed training samples; None if there are none: methods that look at data then refuse.
            seed: of every random choice.
            exclude: names of parameters, or prefixes of names that end before a dot. They stay whole: a weight keeps
                the units that it produces and those that it reads, a bias or scale its own alone.
            couple: if false, groups that more than one layer produces stay (those of a residual stream).
            widths: which numbers of channels suit the machine that the network is for.
            element: what convolutions compute with there.

        Raises:
            NetworkError: if the network cannot be traced, a name in `exclude` is unknown, or it has no channels that
                could go at all.
        """
        traced = trace_network(network, input_shape)
        groups = Groups(trace(traced.graph, fold=False), traced.parameters)
        if groups.size == 0:
            raise NetworkError(
                "no channel of this network can go", next_step="`compress explain` on its ONNX file says why"
            )
        own = copy.deepcopy(network).eval()
        prunable = _prunable(groups, traced.parameters, exclude, couple)
        weights = _weights(own, traced.parameters, exclude)
        cost = CostModel(groups)
        return cls(own, input_shape, groups, cost, traced.parameters, samples, seed, prunable, weights, widths, element)

    def seen_on(self, network: nn.Module) -> PruningProblem:
        """Returns this problem for the same network with other weights; those that are computed count as they are."""
        return dataclasses.replace(self, network=bake(copy.deepcopy(network)))

    def tensor(self, name: str) -> Tensor:
        """Returns the parameter or buffer called `name`; it is the network's own."""
        return self._tensors[name]

    def array(self, name: str) -> Array:
        """Returns the values of the parameter or buffer called `name`, as float64."""
        values: Array = self._tensors[name].detach().cpu().numpy().astype(np.float64)
        return values

    def members(self, group: ChannelGroup, role: str) -> list[Member]:
        """Returns the members of a group in one role: `out`, `in`, `scale`, `shift`, `mean`, `variance`, `other`."""
        return [member for member in group.members if member.role == role]

    def per_unit(self, group: ChannelGroup, member: Member, values: Array) -> Array:
        """Sums an array of the shape of a member's parameter over what belongs to each unit.

        Args:
            group: the group.
            member: one of its members.
            values: of the parameter's shape, e.g. the absolute weights.

        Returns:
            One sum for each unit of the group. Shape: (group.size,), float64.
        """
        rows = np.moveaxis(values, member.axis, 0).reshape(len(member.unit), -1).sum(axis=1)
        mine = member.unit >= 0
        sums: Array = np.bincount(member.unit[mine], weights=rows[mine], minlength=group.size)
        return sums

    @cached_property
    def strata(self) -> tuple[Stratum, ...]:
        """The strata of all groups, in the order of their first units."""
        found = []
        for index, (group, start) in enumerate(zip(self.groups.groups, self.groups.offsets[:-1], strict=True)):
            passes = np.zeros((group.size, len(group.members)), dtype=bool)
            for column, member in enumerate(group.members):
                passes[member.unit[member.unit >= 0], column] = True
            together: dict[bytes, list[int]] = {}
            for unit, row in enumerate(passes):
                together.setdefault(row.tobytes(), []).append(unit)
            for units in together.values():
                numbers = np.asarray(units) + start
                suited = self._suited(group, np.asarray(units))
                found.append(Stratum(index, numbers, bool(self.prunable[numbers].all()), suited))
        return tuple(found)

    def _suited(self, group: ChannelGroup, units: Array) -> Array:
        """Returns which numbers of units suit each weight that they alone pass, one position each."""
        axes = {
            (member.parameter, member.axis)
            for member in group.members
            if np.array_equal(np.sort(member.unit), np.sort(units))
        }
        places = [site for site in self._sites if (site.weight, site.axis) in axes]
        pays = [self.widths.paying(site, units.size) for site in places]
        return 1 + np.flatnonzero(np.logical_and.reduce(pays or [multiples(1, units.size)]))

    @cached_property
    def _sites(self) -> list[Site]:
        return [dataclasses.replace(site, element=self.element) for site in sites(self.groups.trace)]

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return dict(self.network.named_parameters(remove_duplicate=False)) | dict(
            self.network.named_buffers(remove_duplicate=False)
        )


@dataclass(frozen=True)
class Place:
    """One axis of one parameter, and the units along it.

    Attributes:
        parameter: its name.
        axis: the axis.
        role: as in `Member`.
        unit: for each position its unit's number over all groups; -1: of none.
    """

    parameter: str
    axis: int
    role: str
    unit: Array


def places(groups: Groups) -> list[Place]:
    """Returns every axis that a unit passes, once: where channels are concatenated, an axis belongs to many groups."""
    found: dict[tuple[str, int], Place] = {}
    for member, start in _members(groups):
        key = (member.parameter, member.axis)
        if key not in found:
            found[key] = Place(*key, member.role, np.full(member.unit.size, -1))
        mine = member.unit >= 0
        found[key].unit[mine] = member.unit[mine] + start
    return list(found.values())


def images_and_labels(problem: PruningProblem) -> tuple[Tensor, Tensor]:
    """Returns the samples, where the network's parameters are.

    Raises:
        DataError: if there are none.
    """
    if problem.samples is None:
        raise DataError("this method looks at training images", next_step="give a recipe with --recipe")
    device = next(problem.network.parameters()).device
    return problem.samples.images.to(device), problem.samples.labels.to(device)


def sample_losses(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross-entropy of each sample, float64: sums over samples then hold what float32 outputs tell."""
    with torch.no_grad():
        logits: Tensor = network(images)
        return nn.functional.cross_entropy(logits.double(), labels, reduction="none")


def _members(groups: Groups) -> Iterator[tuple[Member, int]]:
    for group, start in zip(groups.groups, groups.offsets[:-1], strict=True):
        for member in group.members:
            yield member, int(start)


def _weights(network: nn.Module, parameters: list[str], exclude: Sequence[str]) -> tuple[str, ...]:
    layers = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
    own = {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        if isinstance(module, layers)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim > 1
    }
    return tuple(name for name in parameters if name in own and not _excluded(name, exclude))


def _excluded(parameter: str, exclude: Sequence[str]) -> bool:
    return any(parameter == name or parameter.startswith(f"{name}.") for name in exclude)


def _prunable(groups: Groups, parameters: list[str], exclude: Sequence[str], couple: bool) -> Array:
    stays = np.zeros(groups.size, dtype=bool)
    prefixes = {name.rsplit(".", n)[0] for name in parameters for n in range(1, name.count(".") + 1)}
    for pattern in exclude:
        if pattern not in prefixes and pattern not in parameters:
            raise NetworkError(
                f"[prune] exclude: no parameter is called or starts with {pattern!r}",
                next_step=suggestion(pattern, prefixes | set(parameters)),
            )
    for member, start in _members(groups):
        if _excluded(member.parameter, exclude):
            stays[member.unit[member.unit >= 0] + start] = True
    if not couple:
        shapes = groups.trace.graph.shapes
        # A depthwise convolution follows the layer that feeds it: it is no second producer.
        depthwise = {
            node.input(1)
            for node in groups.trace.graph.nodes
            if int(node.attributes.get("group", 1)) > 1 and shapes[node.input(1)][1] == 1
        }
        for group, start in zip(groups.groups, groups.offsets[:-1], strict=True):
            if len({member.parameter for member in group.producers} - depthwise) > 1:
                stays[start : start + group.size] = True
    return ~stays

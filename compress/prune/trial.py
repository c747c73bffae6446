"""The loss without one unit more, for many units: what cannot be affected is replayed, what is hopeless is dropped."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.channels.groups import Groups
from compress.channels.plan import Plan
from compress.compact import apply_plan
from compress.errors import NetworkError
from compress.prune.criteria.filter_norm import FilterL1
from compress.prune.masks import MASKED_ROLES, ChannelMask
from compress.prune.problem import PruningProblem, images_and_labels, places, sample_losses
from compress.prune.replay import Replay

_CHUNK = 8  # samples that are tried before a candidate may be rejected; then as many again, and so on
_LONGEST = 64  # samples at once
_DOUBT = 1e-5  # losses nearer than this, relative to 1 + loss, are told apart by the plain network
_COMPACT_BELOW = 0.75  # the network is compacted when this share of the multiply-accumulates is left


class UnitTrial:
    """A network without what has gone, on which the loss of one more unit is tried.

    Args:
        problem: the network and the samples.
        keep: which units are left; the others are cut out where the network's `forward` allows it, else masked.
    """

    def __init__(self, problem: PruningProblem, keep: Array) -> None:
        self.problem = problem
        self.images, self.labels = images_and_labels(problem)
        self.keep = keep.copy()
        network, masked = _without(problem, keep, self.images[:2])
        tensors: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
        tensors |= dict(network.named_buffers(remove_duplicate=False))
        present = np.append(keep, True)
        self.spots: dict[int, list[tuple[Tensor, int, Tensor]]] = {}
        names: dict[int, set[str]] = {}
        unread = np.append(_unread(problem.groups), False)
        for place in places(problem.groups):
            if place.role not in MASKED_ROLES:
                continue
            unit = place.unit if masked else place.unit[present[place.unit]]
            # What nobody reads need not be zero: whatever computes the unit is replayed as it was.
            unit = np.where((place.role == "in") | unread[unit], unit, -1)
            for number in np.unique(unit[unit >= 0]):
                index = torch.from_numpy(np.flatnonzero(unit == number)).to(self.images.device)
                self.spots.setdefault(int(number), []).append((tensors[place.parameter], place.axis, index))
                names.setdefault(int(number), set()).add(place.parameter)
        kinds = sorted({tuple(sorted(parameters)) for parameters in names.values()})
        self.replay = Replay(network, self.images[:2], kinds)
        self.start = {unit: self.replay.starts[kinds.index(tuple(sorted(p)))] for unit, p in names.items()}
        self.sample_losses = sample_losses(network, self.images, self.labels)
        self.guess = np.concatenate(FilterL1(normalise=True).score(problem))

    def compacted(self, keep: Array) -> UnitTrial:
        """Returns a smaller network for the same units, or this one where it would not be much smaller."""
        macs = self.problem.cost(keep).macs
        if macs > _COMPACT_BELOW * self.problem.cost(self.keep).macs:
            return self
        smaller = UnitTrial(self.problem, keep)
        smaller.guess = self.guess
        return smaller

    def remove(self, unit: int) -> None:
        """Has nobody read a unit any more, for good."""
        for tensor, axis, index in self.spots[unit]:
            tensor.detach().index_fill_(axis, index, 0)

    def best(self, candidates: Array, keep: Array) -> tuple[int, float]:
        """Returns the candidate without which the mean loss is lowest, and that loss."""
        order = torch.argsort(self.sample_losses, descending=True, stable=True)
        images, labels = self.images[order], self.labels[order]
        self.replay.record(images)
        bound, finished = float("inf"), {}
        for unit in candidates[np.argsort(self.guess[candidates], kind="stable")]:
            losses = self._losses(int(unit), images, labels, bound)
            total = float(losses.sum())
            if len(losses) == len(labels):
                finished[int(unit)] = losses
                bound = min(bound, total + _DOUBT * (len(labels) + total))
            # Rejected candidates are compared by their loss on the hardest samples, which all of them have.
            self.guess[unit] = float(losses[:_CHUNK].sum())
        # Dead units all give the very losses of the network as it is: of those that agree on every sample the first
        # stands for all, so that they need no telling apart.
        alike: dict[bytes, int] = {}
        for unit in sorted(unit for unit, losses in finished.items() if losses.sum() <= bound):
            alike.setdefault(finished[unit].cpu().numpy().tobytes(), unit)
        contenders = {unit: float(finished[unit].sum()) for unit in alike.values()}
        if not contenders:
            raise NetworkError("the loss on the samples is not a number", next_step="check the network's weights")
        if len(contenders) > 1:
            contenders = {unit: self._plain_loss(unit, keep) for unit in contenders}
        chosen = min(contenders, key=lambda unit: (contenders[unit], unit))
        self.sample_losses[order] = finished[chosen]
        return chosen, contenders[chosen] / len(labels)

    def losses(self) -> dict[int, Tensor]:
        """Returns the loss of every sample without each unit that is left, float64 [N]."""
        self.replay.record(self.images)
        return {unit: self._losses(unit, self.images, self.labels, float("inf")) for unit in sorted(self.spots)}

    def _losses(self, unit: int, images: Tensor, labels: Tensor, bound: float) -> Tensor:
        """Returns the losses of the first samples without a unit: of all, or until their sum exceeds `bound`."""
        saved = [tensor.detach().index_select(axis, index) for tensor, axis, index in self.spots[unit]]
        self.remove(unit)
        found: list[Tensor] = []
        total = 0.0
        for chunk in _chunks(len(labels)):
            logits = self.replay.run(images, chunk, self.start[unit])
            found.append(nn.functional.cross_entropy(logits.double(), labels[chunk], reduction="none"))
            total += float(found[-1].sum())
            if not total <= bound:
                break
        for (tensor, axis, index), values in zip(self.spots[unit], saved, strict=True):
            tensor.detach().index_copy_(axis, index, values)
        return torch.cat(found)

    def _plain_loss(self, unit: int, keep: Array) -> float:
        """Returns the loss as the naive algorithm computes it: every sample through the whole masked network."""
        without = keep.copy()
        without[unit] = False
        network = copy.deepcopy(self.problem.network)
        ChannelMask(self.problem.groups, without).apply(network)
        return float(sample_losses(network, self.images, self.labels).sum())


def _unread(groups: Groups) -> Array:
    """Returns which units no weight reads; all else that reads a unit hands it on to weights, or it could not go."""
    unread = np.ones(groups.size, dtype=bool)
    for place in places(groups):
        if place.role == "in":
            unread[place.unit[place.unit >= 0]] = False
    return unread


def _chunks(count: int) -> Iterator[slice]:
    """Yields slices of samples that become longer: few are enough for most candidates, all at once is quickest."""
    first = 0
    while first < count:
        size = min(max(_CHUNK, first), _LONGEST)
        yield slice(first, first + size)
        first += size


def _without(problem: PruningProblem, keep: Array, example: Tensor) -> tuple[nn.Module, bool]:
    """Returns a copy of the network without some units, and whether they are only masked in it."""
    masked = copy.deepcopy(problem.network)
    ChannelMask(problem.groups, keep).apply(masked)
    if keep.all():
        return masked, True
    smaller = copy.deepcopy(problem.network)
    apply_plan(smaller, Plan.from_kept(problem.groups.kept(keep), problem.parameters))
    with torch.no_grad():
        try:
            same = torch.allclose(smaller(example), masked(example), rtol=1e-3, atol=1e-3)
        except RuntimeError:
            # A forward() that names channel counts runs at full size only.
            same = False
    return (smaller, False) if same else (masked, True)

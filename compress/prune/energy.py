"""The energy loss of a state, and networks from which units are dropped for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.graph import Array
from compress.channels.groups import Groups
from compress.prune.masks import MASKED_ROLES
from compress.prune.problem import places


def energy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean energy loss of a batch, a float64 scalar.

    F(y, X) = −ε_y with logits ε; E = F(y_c, X) − min over c' ≠ c of F(y_c', X): negative where the target class has the
    largest logit, the more so the further it is ahead.

    Args:
        logits: [N, K], K ≥ 2.
        labels: int64 [N].

    Source: H. Salehinejad, S. Valaee, "A Framework for Pruning Deep Neural Networks Using Energy-Based Models", 2021,
        equations (2) and (3), the mean over a batch.
    """
    logits = logits.double()
    target = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return (others.amax(1) - target).mean()


class Dropping:
    """Drops units of one network for a moment, and brings their weights back as they were.

    Args:
        model: whose parameters and buffers are changed in place.
        groups: its channel groups.
    """

    def __init__(self, model: nn.Module, groups: Groups) -> None:
        tensors = dict(model.named_parameters(remove_duplicate=False))
        self._spots = [
            (tensors[place.parameter], place.axis, place.unit)
            for place in places(groups)
            if place.role in MASKED_ROLES and place.parameter in tensors
        ]
        self._norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self._saved: list[tuple[Tensor, int, Tensor, Tensor]] = []

    def drop(self, keep: Array) -> None:
        """Sets to zero all that units which are not kept compute or are read by.

        Args:
            keep: over all groups in turn. Shape: (units,), booleans.
        """
        present = np.append(keep, True)
        with torch.no_grad():
            for tensor, axis, unit in self._spots:
                gone = np.flatnonzero(~present[unit])
                if gone.size:
                    index = torch.from_numpy(gone).to(tensor.device)
                    self._saved.append((tensor, axis, index, tensor.index_select(axis, index)))
                    tensor.index_fill_(axis, index, 0)

    def restore(self) -> None:
        """Brings back what `drop` has zeroed."""
        with torch.no_grad():
            for tensor, axis, index, values in reversed(self._saved):
                tensor.index_copy_(axis, index, values)
        self._saved.clear()

    @contextmanager
    def without(self, keep: Array) -> Iterator[None]:
        """Drops units within the block; statistics of BatchNorm, which a look at a state must not move, stand still."""
        momenta = [module.momentum for module in self._norms]
        for module in self._norms:
            module.momentum = 0.0
        self.drop(keep)
        try:
            yield
        finally:
            self.restore()
            for module, momentum in zip(self._norms, momenta, strict=True):
                module.momentum = momentum

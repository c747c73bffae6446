"""Regularizers: penalties, and changes of weights after a step, that make channels small. One paper a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import nn

from compress.channels.groups import Groups
from compress.registry import Registry
from compress.train.hooks import Hook


class Regularizer(ABC):
    """A regularizer is a frozen dataclass whose fields are its knobs.

    Attributes:
        uses_strength: whether a strength means something to it.
    """

    uses_strength: ClassVar[bool] = True

    @abstractmethod
    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns what takes part in the training.

        Args:
            network: that will be trained; only its structure is read.
            groups: its channel groups.
            strength: λ, the factor of the penalty in the loss.

        Raises:
            NetworkError: if the network has nothing that this regularizer acts on.
        """


regularizers: Registry[type[Regularizer]] = Registry("regularizer", "compress.prune.regularizers")

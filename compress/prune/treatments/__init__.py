"""Treatments: what becomes of the weights that survive a cut, before the last training. One a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from compress.channels.plan import Plan
from compress.options import build
from compress.registry import Registry
from compress.train.checkpoint import LoadedNetwork


@dataclass(frozen=True)
class Survivors:
    """A cut network, and where it comes from.

    Attributes:
        network: cut; changed in place.
        cut: from the network as it was trained to this one.
        initial: the network before its training, or early in it; None where it was not kept.
        seed: of what is drawn.
    """

    network: nn.Module
    cut: Plan
    initial: LoadedNetwork | None
    seed: int


class Treatment(ABC):
    """A treatment is a frozen dataclass.

    Attributes:
        needs_initial: whether it reads the weights that the network had before its training.
    """

    needs_initial: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, survivors: Survivors) -> None:
        """Readies a cut network for its last training, in place.

        Raises:
            NetworkError: if that cannot be done; nothing has been changed then.
        """


treatments: Registry[type[Treatment]] = Registry("treatment of weights", "compress.prune.treatments")


def treatment_of(name: str) -> Treatment:
    """Returns the treatment that a recipe names.

    Raises:
        CompressError: if there is none.
    """
    return build(treatments, name, {})

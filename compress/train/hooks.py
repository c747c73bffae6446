"""What a method may do while the loop trains: add to the loss, change weights after a step or an epoch, hold masks.

A hook implements the protocols that it needs; the loop asks which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


class Regularizer(Protocol):
    """Makes weights sparse while they train."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Returns a scalar to add to the loss, strength included, in float32; None if there is nothing to add."""


@runtime_checkable
class AfterStep(Protocol):
    """A regularizer that changes weights after each optimizer step, e.g. by a proximal map."""

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        """Changes the weights in place; `learning_rate` is that of the step just taken. Runs before the masks."""


@runtime_checkable
class AfterEpoch(Protocol):
    """A regularizer that acts between epochs, before the validation."""

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Changes the weights in place; `epoch` counts from 1 and has just ended."""


@runtime_checkable
class Stateful(Protocol):
    """A regularizer with a memory, which a resumed training must find again."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """Returns all that `penalty`, `after_step` and `after_epoch` depend on beside the weights."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state_dict` returned; tensors come on the CPU."""


class Masks(Protocol):
    """Keeps pruned or frozen weights as they are."""

    def apply(self, model: nn.Module) -> None:
        """Restores the weights in place; runs before the first step and after each."""

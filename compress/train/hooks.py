"""What a method may do while the loop trains: change weights, gradients and the forward pass, add to the loss.

A hook overrides what it needs; everything else does nothing. Hooks are called in the order in which they are given,
masks after all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn


class Hook:
    """Takes part in a training."""

    def attach(self, model: nn.Module) -> None:
        """Readies the model, before the optimizer is built: parameters added here are trained (parametrizations)."""

    def detach(self, model: nn.Module) -> None:
        """Undoes `attach`: every parameter has its own name and shape again, and holds what the model computes with."""

    def before_step(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Sees a batch before the model does; images [N, C, H, W] and labels [N] are on the model's device."""

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Returns a scalar to add to the loss, strength included, in float32; None if there is nothing to add."""
        return None

    def after_backward(self, model: nn.Module) -> None:
        """Changes gradients in place, before they are clipped."""

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        """Changes the weights in place; `learning_rate` is that of the step just taken. Runs before the masks."""

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Acts before the validation; `epoch` counts from 1 and has just ended. Runs before the masks."""

    def after_validation(self, model: nn.Module, accuracy: float | None) -> None:
        """Sees how the epoch ended: per cent of the validation images; None if there are none.

        May change the weights in place, of an epoch that was not the best; runs after the epoch's masks.
        """

    def state_dict(self) -> Mapping[str, Tensor]:
        """Returns all that the other methods depend on beside the weights: a resumed training must find it again."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state_dict` returned; tensors come on the CPU."""


class Masks(Protocol):
    """Keeps pruned or frozen weights as they are."""

    def apply(self, model: nn.Module) -> None:
        """Restores the weights in place; runs before the first step, after each, and after each epoch's hooks."""

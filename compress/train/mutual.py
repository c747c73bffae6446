"""Deep mutual learning: two networks that teach each other, both of them trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compress.recipe import TrainSettings
from compress.train.distill import classification_loss
from compress.train.hooks import Hook
from compress.train.optimizer import build_optimizer, set_learning_rate
from compress.train.state import optimizer_tensors, restore_optimizer
from compress.train.weights import put_weights, weights_of

_NETWORK, _OPTIMIZER = "network.", "optimizer."


class Peer(Hook):
    """The other network: learns from the labels and from the student, by the student's settings.

    In each step both networks see the same images first, and each then learns from what the other said.

    Args:
        network: trained in place, on the student's device.
        settings: of the training; its `distill` has kind `mutual`.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings) -> None:
        self._network, self._settings = network, settings
        self._optimizer = build_optimizer(network, settings)
        self._own: Tensor | None = None
        self._loss: Tensor | None = None

    def see(self, images: Tensor) -> Tensor:
        """Returns the logits of a batch, which its own learning still needs; the caller detaches them."""
        self._network.train()
        self._own = self._network(images).float()
        return self._own

    def hear(self, student: Tensor, labels: Tensor) -> None:
        """Takes the student's logits of the batch, [N, K]; no gradient flows back to it."""
        assert self._own is not None
        self._loss = classification_loss(
            self._own,
            labels,
            label_smoothing=self._settings.label_smoothing,
            distill=self._settings.distill,
            teacher=student.detach(),
        )

    def after_step(self, model: nn.Module, learning_rate: float) -> None:
        """Takes the peer's own step, with the student's learning rate."""
        if self._loss is None:
            return
        self._optimizer.zero_grad(set_to_none=True)
        self._loss.backward()  # type: ignore[no-untyped-call]
        if self._settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._network.parameters(), self._settings.gradient_clip)
        set_learning_rate(self._optimizer, learning_rate)
        self._optimizer.step()
        self._own = self._loss = None

    def detach(self, model: nn.Module) -> None:
        """Leaves the peer without gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Returns the peer's weights and its optimizer's memory."""
        state = {f"{_NETWORK}{name}": tensor for name, tensor in weights_of(self._network).items()}
        memory = optimizer_tensors(self._network, self._optimizer)
        return state | {f"{_OPTIMIZER}{name}": tensor for name, tensor in memory.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes both back."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}

        with torch.no_grad():
            put_weights(self._network, under(_NETWORK), "the peer")
        restore_optimizer(self._optimizer, self._network, under(_OPTIMIZER))

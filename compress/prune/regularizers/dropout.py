"""Dropout: activations of hidden units are zero by chance while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from compress.channels.groups import Groups
from compress.prune.gates import channel_gates
from compress.prune.regularizers import Regularizer, regularizers
from compress.train.hooks import Hook


class _Dropout(Hook):
    """Drops outputs of layers while they train."""

    def __init__(self, layers: tuple[str, ...], settings: Dropout) -> None:
        self._layers, self._settings = layers, settings
        self._handles: list[RemovableHandle] = []

    def attach(self, model: nn.Module) -> None:
        for path in self._layers:
            self._handles.append(model.get_submodule(path).register_forward_hook(self._drop))

    def detach(self, model: nn.Module) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _drop(self, module: nn.Module, _: Any, output: Tensor) -> Tensor:
        rate = self._settings.rate
        if self._settings.drops == "activations" or isinstance(module, nn.Linear):
            return functional.dropout(output, rate, module.training)
        kept = output.new_ones(output.shape[:2])
        return output * functional.dropout(kept, rate, module.training).reshape(*kept.shape, *[1] * (output.ndim - 2))


@regularizers.register("dropout")
@dataclass(frozen=True)
class Dropout(Regularizer):
    """Sets activations of hidden units to zero by chance while training, and scales the others up.

    y = a · m / (1 − p) with m = 0 with probability p, else 1, for each image; in evaluation mode y = a.

    Args:
        rate: p.
        drops: `activations`, each by itself; or `channels` as a whole.

    Raises:
        NetworkError: if the network has no hidden channels that could go.

    Source: N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: A Simple Way to Prevent
        Neural Networks from Overfitting", 2014, §4, scaled while training instead of afterwards; channels: J. Tompson
        et al., "Efficient Object Localization Using Convolutional Networks", 2015. It acts where a channel leaves its
        layer, behind the BatchNorm if there is one and before the activation, which for ReLU is the same as behind it.
    """

    uses_strength: ClassVar[bool] = False
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    drops: Literal["activations", "channels"] = "activations"

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns what drops the outputs of the layers that make the network's channels."""
        paths = dict.fromkeys(gated.parameter.rpartition(".")[0] for gated in channel_gates(groups))
        return _Dropout(tuple(paths), self)

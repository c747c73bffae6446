"""DropConnect: weights are zero by chance while training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from compress.channels.groups import Groups
from compress.errors import NetworkError
from compress.prune.groupings import kernel_weights
from compress.prune.parametrized import compute, keep_computed
from compress.prune.regularizers import Regularizer, regularizers
from compress.train.hooks import Hook


class Connections(nn.Module):
    """W ⊙ M / (1 − p) while training, W afterwards."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate

    def forward(self, original: Tensor) -> Tensor:
        """Returns the weight with some of its connections cut."""
        return functional.dropout(original, self._rate, self.training)


class _DropConnect(Hook):
    """Attaches the masks."""

    def __init__(self, weights: tuple[str, ...], rate: float) -> None:
        self._weights, self._rate = weights, rate

    def attach(self, model: nn.Module) -> None:
        for weight in self._weights:
            compute(model, weight, Connections(self._rate))

    def detach(self, model: nn.Module) -> None:
        keep_computed(model, self._weights)


@regularizers.register("dropconnect")
@dataclass(frozen=True)
class DropConnect(Regularizer):
    """Sets weights to zero by chance while training, anew for each batch, and scales the others up.

    The network computes with W ⊙ M / (1 − p), M = 0 with probability p, else 1; in evaluation mode with W.

    Args:
        rate: p.
        layers: `linear` layers, or `all` with convolutions too.

    Raises:
        NetworkError: if the network has no such layer.

    Source: L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of Neural Networks using DropConnect",
        2013, equation (2). There each image has a mask of its own, and inference draws from the Gaussian that the masks
        give; here a batch has one mask, and inference takes its mean, the weight itself. Biases stay.
    """

    uses_strength: ClassVar[bool] = False
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    layers: Literal["linear", "all"] = "all"

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns the masks of the network's weights."""
        convolutions = {path for path, module in network.named_modules() if isinstance(module, nn.modules.conv._ConvNd)}
        names = tuple(
            weight.name
            for weight in kernel_weights(network, linear=True)
            if self.layers == "all" or weight.name.rpartition(".")[0] not in convolutions
        )
        if not names:
            raise NetworkError("the network has no linear layer", next_step="set layers = 'all'")
        return _DropConnect(names, self.rate)

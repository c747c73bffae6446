"""Weight sharing with trained centroids: the second half of deep compression's quantization."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from compress.channels.groups import Groups
from compress.coding.clusters import share
from compress.errors import NetworkError
from compress.prune.regularizers import Regularizer, regularizers
from compress.train.hooks import Hook

Bits = Annotated[int, Field(ge=1, le=12)]


class _Centroids(nn.Module):
    """W = centroids[index], and 0 where a weight was zero when it was made.

    Args:
        weight: of any shape.
        bits: of a place among the centroids.
    """

    index: Tensor  # of each weight, its place; that after the last is a zero

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        shared = share(weight.detach().cpu().numpy(), bits)
        places = torch.from_numpy(shared.index)
        places[places < 0] = len(shared.centroids)
        self.initial = torch.from_numpy(shared.centroids).to(weight.device)
        self.register_buffer("index", places.to(weight.device))

    def forward(self, centroids: Tensor) -> Tensor:
        """Returns the weights: the gradient of a centroid is the sum over those that share it, that of a zero is lost.

        Args:
            centroids: shape (k,).
        """
        table = torch.cat([centroids, centroids.new_zeros(1)])
        return table.index_select(0, self.index.reshape(-1)).reshape(self.index.shape)

    def right_inverse(self, _: Tensor) -> Tensor:
        """Returns the centroids to start from."""
        return self.initial.clone()


@dataclass(frozen=True)
class _WeightSharing(Hook):
    """Trains centroids in place of weights.

    Args:
        bits: name of a parameter → bits of a place among its centroids; tied ones under their first name.
        holders: that name → the modules (by name) that hold the parameter, each as their `weight`.
    """

    bits: dict[str, int]
    holders: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def attach(self, model: nn.Module) -> None:
        for name, bits in self.bits.items():
            first, *others = self._modules_of(model, name)
            weight = first.weight.detach().clone()
            shared = _Centroids(weight, bits)
            parametrize.register_parametrization(first, "weight", shared)
            for module in others:
                # The object that they hold has just become the centroids; registering needs one of the weight's shape.
                module.weight = nn.Parameter(weight.clone())
                parametrize.register_parametrization(module, "weight", shared)
                _list_of(module).original = _list_of(first).original

    def _modules_of(self, model: nn.Module, name: str) -> list[Any]:
        return [model.get_submodule(holder) for holder in self.holders[name]]

    def detach(self, model: nn.Module) -> None:
        for name in self.bits:
            first, *others = self._modules_of(model, name)
            for module in others:
                parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
            # Last: it makes weights of the object that all hold.
            parametrize.remove_parametrizations(first, "weight", leave_parametrized=True)
            first.weight.grad = None
            for module in (first, *others):
                # The weight comes before the bias, as it did.
                module._parameters |= {other: module._parameters.pop(other) for other in _others(module)}


def _list_of(module: nn.Module) -> Any:
    """Returns what torch keeps of a parametrized weight: `original` holds the centroids."""
    return module.get_submodule("parametrizations.weight")


def _others(module: nn.Module) -> list[str]:
    return [name for name in module._parameters if name != "weight"]


@regularizers.register("weight-sharing")
@dataclass(frozen=True)
class WeightSharing(Regularizer):
    """Each layer's weights share 2^bits centroids, found by k-means, and the centroids are trained in their place.

    W_ij = c[I_ij], ∂L/∂c_k = Σ_ij ∂L/∂W_ij · 1(I_ij = k); the places I stay as k-means has found them. Weights that are
    zero when the training begins have no centroid and stay zero. Nothing is added to the loss: the strength has no
    part in it.

    Args:
        conv_bits: of a place among a convolution's centroids.
        linear_bits: of a place among a linear layer's centroids.

    Source: S. Han, H. Mao, W. Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
        Quantization and Huffman Coding", 2016, section 3, equations (2) and (3), with the linear initialisation.
    """

    conv_bits: Bits = 8
    linear_bits: Bits = 5

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> Hook:
        """Returns what trains the centroids of convolutions and linear layers."""
        return share_weights(network, self.conv_bits, self.linear_bits)


def share_weights(network: nn.Module, conv_bits: int, linear_bits: int) -> Hook:
    """Returns what trains shared weights.

    Args:
        network: that will be trained; only its structure is read. A weight that several layers hold is shared once.
        conv_bits: of a place among a convolution's centroids.
        linear_bits: of a place among a linear layer's centroids.

    Raises:
        NetworkError: if it has neither convolutions nor linear layers.
    """
    holders: dict[int, list[tuple[str, nn.Module]]] = {}
    for path, module in network.named_modules():
        if isinstance(module, _ConvNd | nn.Linear):
            holders.setdefault(id(module.weight), []).append((path, module))
    if not holders:
        raise NetworkError(
            "the network has no convolution or linear layer whose weights could be shared",
            next_step="leave weight sharing out of the recipe",
        )
    bits, paths = {}, {}
    for found in holders.values():
        path, module = found[0]
        name = f"{path}.weight" if path else "weight"
        bits[name] = conv_bits if isinstance(module, _ConvNd) else linear_bits
        paths[name] = tuple(path for path, _ in found)
    return _WeightSharing(bits, paths)

"""Out-in-channel sparsity: a channel's producers and its readers are one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import nn

from compress.channels.groups import Groups
from compress.errors import NetworkError
from compress.prune.groupings import GroupedPenalty, Term, coupled_channels, kernel_weights, root, squares
from compress.prune.regularizers import Regularizer, regularizers


@regularizers.register("oicsr")
@dataclass(frozen=True)
class OutInChannel(Regularizer):
    """The group lasso over the filters that produce a channel and the columns that read it, jointly.

    R(W) = Σ_l Σ_c ‖[W^l[c, :], W^{l+1}[:, c]]‖₂.

    Args:
        epsilon: added below the square root, whose gradient has no bound at zero.

    Raises:
        NetworkError: if no channel of the network can go.

    Source: J. Li, Q. Qi, J. Wang, C. Ge, Y. Li, Z. Yue, H. Sun, "OICSR: Out-In-Channel Sparsity Regularization for
        Compact Deep Neural Networks", 2019, equation (4). There two successive layers; here all layers that produce or
        read the channel, through residual sums and concatenations too.
    """

    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ R over the network's channel groups."""
        names = {weight.name for weight in kernel_weights(network, linear=True)}
        layers = tuple(coupled_channels(group, {"out", "in"}, names) for group in groups.groups)
        if not layers:
            raise NetworkError(
                "the network has no channels that could go", next_step="choose regularizer 'group-lasso'"
            )
        return GroupedPenalty(layers, strength, (Term(squares, root(self.epsilon)),))

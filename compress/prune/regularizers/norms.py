"""Norms of all weights alike."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from compress.channels.groups import Groups
from compress.prune.groupings import GroupedPenalty, Term, layers_of, magnitudes, same, squares
from compress.prune.regularizers import Regularizer, regularizers


@regularizers.register("l1")
@dataclass(frozen=True)
class L1(Regularizer):
    """The sum of the absolute weights.

    R(W) = Σ |w|, with the subgradient 0 at 0.

    Args:
        linear: whether linear layers count.

    Source: K. Mitsuno, "BonsaiNet", 2022, equation (2.13), after R. Tibshirani, "Regression Shrinkage and Selection via
        the Lasso", 1996. Biases and normalisations are left out.
    """

    linear: bool = True

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ Σ |w|."""
        layers = layers_of(network, groups, "filter", linear=self.linear)
        return GroupedPenalty(layers, strength, (Term(magnitudes, same),))


@regularizers.register("l2")
@dataclass(frozen=True)
class L2(Regularizer):
    """The sum of the squared weights: weight decay as a part of the loss.

    R(W) = Σ w².

    Args:
        linear: whether linear layers count.

    Source: K. Mitsuno, "BonsaiNet", 2022, equation (2.12). Biases and normalisations are left out.
    """

    linear: bool = True

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ Σ w²."""
        layers = layers_of(network, groups, "filter", linear=self.linear)
        return GroupedPenalty(layers, strength, (Term(squares, same),))

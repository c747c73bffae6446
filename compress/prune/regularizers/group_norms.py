"""Norms of groups: the group lasso, exclusive sparsity, group L1/2, and their sums with the L1 norm."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from compress.channels.groups import Groups
from compress.prune.groupings import (
    GroupedPenalty,
    Grouping,
    Term,
    layers_of,
    magnitudes,
    root,
    same,
    squares,
)
from compress.prune.regularizers import Regularizer, regularizers


@dataclass(frozen=True)
class Grouped(Regularizer):
    """What penalties on groups share.

    Args:
        grouping: `filter`, `neuron`, `feature` or `channel`: what counts as a group.
        epsilon: added below square roots, whose gradient has no bound at zero.
        linear: whether linear layers count as 1×1 convolutions.
    """

    grouping: Grouping = "neuron"
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    linear: bool = False

    def bind(self, network: nn.Module, groups: Groups, strength: float) -> GroupedPenalty:
        """Returns λ R over the network's layers."""
        layers = layers_of(network, groups, self.grouping, linear=self.linear)
        return GroupedPenalty(layers, strength, self.terms())

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """Returns the summands of R."""


def half_square(sums: Tensor) -> Tensor:
    """½ (·)²."""
    return 0.5 * sums.square()


@regularizers.register("group-lasso")
@dataclass(frozen=True)
class GroupLasso(Grouped):
    """The sum of the Euclidean norms of the groups: whole groups become zero.

    R(W) = Σ_g ‖W_g‖₂ = Σ_g √(Σ_i w_{g,i}²).

    Source: K. Mitsuno, "BonsaiNet", 2022, equation (2.14), after M. Yuan, Y. Lin, "Model Selection and Estimation in
        Regression with Grouped Variables", 2006. Groups are not weighted by their size, as in the thesis.
    """

    def terms(self) -> tuple[Term, ...]:
        """Returns √(Σ w²)."""
        return (Term(squares, root(self.epsilon)),)


@regularizers.register("sparse-group-lasso")
@dataclass(frozen=True)
class SparseGroupLasso(Grouped):
    """Group lasso and L1 norm together: whole groups, and weights of the groups that remain.

    R(W) = α Σ_g ‖W_g‖₂ + (1 − α) ‖W‖₁.

    Args:
        alpha: α, the share of the group lasso.

    Source: K. Mitsuno, "BonsaiNet", 2022, equation (2.15), after S. Scardapane, D. Comminiello, A. Hussain, A. Uncini,
        "Group Sparse Regularization for Deep Neural Networks", 2017.
    """

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5

    def terms(self) -> tuple[Term, ...]:
        """Returns both terms."""
        return (
            Term(squares, root(self.epsilon), lambda _index, _count: self.alpha),
            Term(magnitudes, same, lambda _index, _count: 1 - self.alpha),
        )


@regularizers.register("exclusive")
@dataclass(frozen=True)
class Exclusive(Grouped):
    """Half the squared L1 norms of the groups: the weights of a group compete.

    R(W) = ½ Σ_g ‖W_g‖₁² = ½ Σ_g (Σ_i |w_{g,i}|)².

    Source: K. Mitsuno, "BonsaiNet", 2022, equation (2.16), after Y. Zhou, R. Jin, S. C. H. Hoi, "Exclusive Lasso for
        Multi-task Feature Selection", 2010. The thesis' authors' code carries no ½.
    """

    def terms(self) -> tuple[Term, ...]:
        """Returns ½ (Σ |w|)²."""
        return (Term(magnitudes, half_square),)


@regularizers.register("cges")
@dataclass(frozen=True)
class CombinedGroupExclusive(Grouped):
    """Group lasso in the early layers, exclusive sparsity in the late ones.

    R(W^l) = (1 − μ_l) Σ_g ‖W_g‖₂ + μ_l ½ Σ_g ‖W_g‖₁² with μ_l = m + (1 − 2m)(l − 1)/(L − 1) for layer l of L.

    Args:
        lowest: m, the share of exclusive sparsity in the first layer; the last has 1 − m.

    Source: J. Yoon, S. J. Hwang, "Combined Group and Exclusive Sparsity for Deep Neural Networks", 2017, equations (5)
        and (6). There it is minimised by proximal steps; here it is a part of the loss.
    """

    lowest: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    def terms(self) -> tuple[Term, ...]:
        """Returns both terms."""
        return (
            Term(squares, root(self.epsilon), lambda index, count: 1 - self._share(index, count)),
            Term(magnitudes, half_square, self._share),
        )

    def _share(self, index: int, count: int) -> float:
        return self.lowest + (1 - 2 * self.lowest) * index / max(count - 1, 1)


@regularizers.register("group-l12")
@dataclass(frozen=True)
class GroupL12(Grouped):
    """The sum of the square roots of the groups' L1 norms: sparser than the group lasso.

    R(W) = Σ_g ‖W_g‖₁^{1/2} = Σ_g √(Σ_i |w_{g,i}|).

    Source: K. Mitsuno, "BonsaiNet", 2022, equation (2.17), after Z. Xu et al., "L1/2 Regularization: A Thresholding
        Representation Theory and a Fast Solver", 2012.
    """

    def terms(self) -> tuple[Term, ...]:
        """Returns √(Σ |w|)."""
        return (Term(magnitudes, root(self.epsilon)),)

"""Hierarchical group sparsity: kernels compete within a group, and groups as wholes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from compress.prune.groupings import (
    Function,
    Grouping,
    Term,
    magnitudes,
    root,
    same,
    squares,
)
from compress.prune.regularizers import regularizers
from compress.prune.regularizers.group_norms import Grouped


@dataclass(frozen=True)
class Hierarchical(Grouped):
    """What the hierarchical penalties share.

    R(W) = Σ_g outer(Σ_k r(W_{g,k})) over the kernels k of group g. With grouping `filter` a group is one kernel.

    Args:
        grouping: `filter`, `neuron`, `feature` or `channel`: what counts as a group.
        epsilon: added below square roots, whose gradient has no bound at zero.
        linear: whether linear layers count as 1×1 convolutions.

    Source: K. Mitsuno, "BonsaiNet: Searching Neural Networks Structure by Pruning and Planting", 2022, equations (2.18)
        for the root and (2.19) for the square, with (2.14), (2.16) or (2.17) as r, grouped as in (3.1). The thesis sums
        over all layers; the authors' code leaves out linear layers and the convolutions of shortcuts, and carries no ½
        in (2.16). Here linear layers are left out unless asked for, and shortcuts are not, as their input channels are
        those of the stream.
    """

    inner: ClassVar[Literal["gl", "es", "gl12"]]
    outer: ClassVar[Literal["sqrt", "sq"]]
    grouping: Grouping = "feature"

    def terms(self) -> tuple[Term, ...]:
        """Returns the summands of R."""
        return (Term(self._inner(), root(self.epsilon) if self.outer == "sqrt" else _square),)

    def _inner(self) -> Function:
        below = root(self.epsilon)
        if self.inner == "gl":
            return lambda kernels: below(squares(kernels))
        if self.inner == "gl12":
            return lambda kernels: below(magnitudes(kernels))
        return lambda kernels: 0.5 * magnitudes(kernels).square()


@dataclass(frozen=True)
class SparseHierarchical(Hierarchical):
    """What the hierarchical penalties with an L1 norm beside them share.

    Args:
        grouping: `filter`, `neuron`, `feature` or `channel`: what counts as a group.
        epsilon: added below square roots, whose gradient has no bound at zero.
        linear: whether linear layers count as 1×1 convolutions.
        alpha: α, the share of the hierarchical penalty.

    Source: K. Mitsuno, "BonsaiNet", 2022, §2.3.1 and §3.2.1: α = 0.5; see `hsq-gl12` for the rest.
    """

    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5

    def terms(self) -> tuple[Term, ...]:
        """Returns the summands of R."""
        (hierarchical,) = super().terms()
        return (
            Term(hierarchical.inner, hierarchical.outer, lambda _index, _count: self.alpha),
            Term(magnitudes, same, lambda _index, _count: 1 - self.alpha),
        )


def _square(sums: Tensor) -> Tensor:
    return sums.square()


@regularizers.register("hsqrt-gl")
@dataclass(frozen=True)
class HierarchicalRootGroupLasso(Hierarchical):
    """The root of a group's sum of its kernels' Euclidean norms: Σ_g √(Σ_k ‖W_{g,k}‖₂)."""

    inner, outer = "gl", "sqrt"


@regularizers.register("hsqrt-es")
@dataclass(frozen=True)
class HierarchicalRootExclusive(Hierarchical):
    """The root of a group's sum of its kernels' exclusive sparsities: Σ_g √(Σ_k ½ ‖W_{g,k}‖₁²)."""

    inner, outer = "es", "sqrt"


@regularizers.register("hsqrt-gl12")
@dataclass(frozen=True)
class HierarchicalRootGroupL12(Hierarchical):
    """The root of a group's sum of its kernels' L1/2 norms: Σ_g √(Σ_k √‖W_{g,k}‖₁)."""

    inner, outer = "gl12", "sqrt"


@regularizers.register("hsq-gl")
@dataclass(frozen=True)
class HierarchicalSquareGroupLasso(Hierarchical):
    """The square of a group's sum of its kernels' Euclidean norms: Σ_g (Σ_k ‖W_{g,k}‖₂)²."""

    inner, outer = "gl", "sq"


@regularizers.register("hsq-es")
@dataclass(frozen=True)
class HierarchicalSquareExclusive(Hierarchical):
    """The square of a group's sum of its kernels' exclusive sparsities: Σ_g (Σ_k ½ ‖W_{g,k}‖₁²)²."""

    inner, outer = "es", "sq"


@regularizers.register("hsq-gl12")
@dataclass(frozen=True)
class HierarchicalSquareGroupL12(Hierarchical):
    """The square of a group's sum of its kernels' L1/2 norms: Σ_g (Σ_k √‖W_{g,k}‖₁)²; the thesis' choice."""

    inner, outer = "gl12", "sq"


@regularizers.register("shsqrt-gl")
@dataclass(frozen=True)
class SparseHierarchicalRootGroupLasso(SparseHierarchical):
    """α · hsqrt-gl + (1 − α) · L1."""

    inner, outer = "gl", "sqrt"


@regularizers.register("shsqrt-es")
@dataclass(frozen=True)
class SparseHierarchicalRootExclusive(SparseHierarchical):
    """α · hsqrt-es + (1 − α) · L1."""

    inner, outer = "es", "sqrt"


@regularizers.register("shsqrt-gl12")
@dataclass(frozen=True)
class SparseHierarchicalRootGroupL12(SparseHierarchical):
    """α · hsqrt-gl12 + (1 − α) · L1."""

    inner, outer = "gl12", "sqrt"


@regularizers.register("shsq-gl")
@dataclass(frozen=True)
class SparseHierarchicalSquareGroupLasso(SparseHierarchical):
    """α · hsq-gl + (1 − α) · L1."""

    inner, outer = "gl", "sq"


@regularizers.register("shsq-es")
@dataclass(frozen=True)
class SparseHierarchicalSquareExclusive(SparseHierarchical):
    """α · hsq-es + (1 − α) · L1."""

    inner, outer = "es", "sq"


@regularizers.register("shsq-gl12")
@dataclass(frozen=True)
class SparseHierarchicalSquareGroupL12(SparseHierarchical):
    """α · hsq-gl12 + (1 − α) · L1."""

    inner, outer = "gl12", "sq"

"""How the operands of a matrix product lie side by side: A[…, M, K] and B[…, K, N], transposed or not, 1-D or not.

As […, M, K, N], with size 1 where an operand has no axis, they are combined position by position; K is summed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from compress.channels.graph import Array, Shape


@dataclass(frozen=True)
class Operand:
    """One operand of a matrix product.

    Attributes:
        first: whether it is A, or B.
        inner: the axis that is contracted.
        outer: the axis of rows of A or of columns of B; None where the operand is 1-D.
        rank: of the larger operand, two at least.
    """

    first: bool
    inner: int
    outer: int | None
    rank: int

    @cached_property
    def turned(self) -> bool:
        """Whether the two axes stand the other way round."""
        return self.outer is not None and (self.outer < self.inner) != self.first

    def framed_shape(self, shape: Shape) -> Shape:
        """Returns what an array of this shape has as […, M, K, N]."""
        if self.outer is None:
            shape = (1, *shape) if self.first else (*shape, 1)
        *beside, rows, columns = shape
        if self.turned:
            rows, columns = columns, rows
        matrix = (rows, columns, 1) if self.first else (1, rows, columns)
        return (*(1,) * (self.rank - len(shape)), *beside, *matrix)

    def framed(self, cells: Array) -> Array:
        """Lays an array of the operand's rank out as […, M, K, N]."""
        return (cells.swapaxes(-1, -2) if self.turned else cells).reshape(self.framed_shape(cells.shape))

    def unframed(self, cells: Array) -> Array:
        """Undoes `framed`, but for leading axes."""
        cells = self.matrix(cells)
        if self.outer is None:
            return cells.squeeze(-2 if self.first else -1)
        return cells.swapaxes(-1, -2) if self.turned else cells

    def matrix(self, framed: Array) -> Array:
        """Returns what `framed` laid out as […, M, K] or […, K, N]."""
        return framed.squeeze(-1 if self.first else -3)


@dataclass(frozen=True)
class Matrices:
    """Both operands of a matrix product.

    Attributes:
        a: the first one.
        b: the second one.
    """

    a: Operand
    b: Operand

    def as_matrices(self, cells: Array) -> Array:
        """Returns an array of the rank of the result as […, M, N]."""
        cells = cells[..., None] if self.b.outer is None else cells
        return np.expand_dims(cells, -2) if self.a.outer is None else cells

    def as_result(self, cells: Array) -> Array:
        """Undoes `as_matrices`."""
        cells = cells.squeeze(-2) if self.a.outer is None else cells
        return cells.squeeze(-1) if self.b.outer is None else cells


@cache
def matrices(rank_a: int, rank_b: int, turned_a: bool, turned_b: bool) -> Matrices:
    """Returns how operands of some ranks lie; 1-D ones cannot be transposed."""
    rank = max(2, rank_a, rank_b)
    return Matrices(
        Operand(True, *_last_two(rank_a, outer_first=not turned_a), rank),
        Operand(False, *_last_two(rank_b, outer_first=turned_b), rank),
    )


def _last_two(rank: int, *, outer_first: bool) -> tuple[int, int | None]:
    """Returns the axis that is contracted and the other one."""
    if rank == 1:
        return 0, None
    return (rank - 1, rank - 2) if outer_first else (rank - 2, rank - 1)

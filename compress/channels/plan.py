"""A plan: what a cut is, written down. Anybody can apply it again to the model that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from compress.channels.graph import Array
from compress.channels.kept import Kept
from compress.errors import ModelFileError


@dataclass(frozen=True)
class Plan:
    """The positions that remain of each parameter.

    Attributes:
        keep: parameter name → axis → indices that remain, ascending. Axes that lose nothing are absent.
        model_sha256: of the weights file that the plan belongs to, if it belongs to one.
    """

    keep: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)
    model_sha256: str | None = None

    @classmethod
    def from_kept(cls, kept: Kept, names: list[str]) -> Plan:
        """Reads off what remains of the tensors called `names`."""
        found = {name: kept.axes(name) for name in names}
        return cls({n: {a: tuple(map(int, index)) for a, index in axes.items()} for n, axes in found.items() if axes})

    def then(self, later: Plan) -> Plan:
        """Returns the plan that does this one and then `later`, whose indices count in what this one leaves.

        Raises:
            ModelFileError: if `later` names a position that this one does not leave.
        """
        keep = {name: dict(axes) for name, axes in self.keep.items()}
        for name, axes in later.keep.items():
            mine = keep.setdefault(name, {})
            for axis, index in axes.items():
                if axis in mine and index and index[-1] >= len(mine[axis]):
                    raise ModelFileError(
                        f"the second plan does not fit what the first leaves of parameter {name!r}",
                        got=f"position {index[-1]} of {len(mine[axis])} on axis {axis}",
                    )
                mine[axis] = tuple(mine[axis][i] for i in index) if axis in mine else tuple(index)
        return Plan(keep, self.model_sha256)

    def apply(self, name: str, array: Array) -> Array:
        """Returns what remains of one array.

        Raises:
            ModelFileError: if the plan names a position that the array does not have.
        """
        for axis, index in self.keep.get(name, {}).items():
            if axis >= array.ndim or (index and index[-1] >= array.shape[axis]):
                raise ModelFileError(
                    f"the plan does not fit parameter {name!r}", got=f"shape {array.shape}, axis {axis}"
                )
            array = array.take(np.asarray(index, dtype=np.int64), axis=axis)
        return array

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON value."""
        keep = {n: {str(a): list(i) for a, i in sorted(axes.items())} for n, axes in sorted(self.keep.items())}
        return {"keep": keep, "model_sha256": self.model_sha256}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Plan:
        """Reads what `to_dict` wrote.

        Raises:
            ModelFileError: if it is something else.
        """
        try:
            keep = {
                str(name): {_axis(axis): _ascending(index) for axis, index in axes.items()}
                for name, axes in value["keep"].items()
            }
            return cls(keep, value.get("model_sha256"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f"not a plan ({error})", next_step="make it again with `compress prune`") from error


def _ascending(index: Any) -> tuple[int, ...]:
    if not isinstance(index, list) or not all(type(i) is int for i in index):
        raise TypeError("indices must be a list of whole numbers")
    if not index or index[0] < 0 or any(b <= a for a, b in pairwise(index)):
        raise ValueError("indices must ascend from 0 or above, and at least one must remain")
    return tuple(index)


def _axis(text: Any) -> int:
    if int(text) < 0:
        raise ValueError("axes count from 0")
    return int(text)

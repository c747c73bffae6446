"""Passes, one after the other, until none finds anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat

from compress.rewrite.graph_pass import Pass
from compress.rewrite.workpiece import Workpiece

_ROUNDS = 20  # a model that still changes after so many rounds has found a fault in a pass


class PassError(Exception):
    """A pass that has failed, or passes that undo each other."""


def opening(chosen: Iterable[Pass]) -> list[Pass]:
    """Returns the passes that show the others more of a graph; see `Pass.opens`."""
    return [one for one in chosen if one.opens]


def fixpoint(piece: Workpiece, chosen: Sequence[Pass], active: set[str], *, last: bool = False) -> list[str]:
    """Runs the passes until none finds anything; returns what each did.

    Args:
        piece: what they work on; changed.
        chosen: the passes, in their order.
        active: gains the names of those that did something, and of one that failed.
        last: whether no other passes follow: then what they have made must be one that can be exported.

    Raises:
        PassError: if one of them fails, or the graph does not settle.
    """
    notes: list[str] = []
    idle = 0  # passes in a row that have found nothing: once it is all of them, nothing is left to find
    for one in chain.from_iterable(repeat(chosen, _ROUNDS)):
        try:
            found = piece.apply(one)
            idle = 0 if found else idle + 1
            if found:
                active.add(one.name)
                notes += found
            if idle == len(chosen):
                if last:
                    piece.export()
                return notes
        except Exception as error:  # a fault of one pass must not cost the user what the others do
            active.add(one.name)
            reason = " ".join(str(error).split())
            raise PassError(f"pass {one.name} fails: {type(error).__name__}: {reason}") from error
    if not chosen:
        return notes
    raise PassError(f"it did not settle after {_ROUNDS} rounds")

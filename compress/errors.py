"""The one exception tree.

Every error that a user can cause is a `CompressError`: one line that says what is wrong, what was given, what is
allowed and what to do next. The exit code lives on the class, so the command line needs no table of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self


class CompressError(Exception):
    """A mistake that the user can correct.

    Args:
        what: the subject and what is wrong with it, e.g. ``"recipe.toml: [train] epochs must be positive"``.
        got: the offending value, shown with `repr` unless it is a string.
        allowed: what would have been accepted.
        next_step: one thing that the user can do now.
    """

    exit_code = 2

    def __init__(self, what: str, *, got: object = None, allowed: object = None, next_step: str | None = None) -> None:
        parts = [what]
        if got is not None:
            parts.append(f"got {got if isinstance(got, str) else repr(got)}")
        if allowed is not None:
            parts.append(f"allowed: {allowed}")
        if next_step is not None:
            parts.append(f"next: {next_step}")
        # One line, always: a message from a library may bring line breaks of its own.
        super().__init__("; ".join(" ".join(part.split()) for part in parts))

    def within(self, place: str) -> Self:
        """Returns the same error with the place in front, e.g. a file and the row in it."""
        return type(self)(f"{place}: {self}")


class RecipeError(CompressError):
    """A recipe or budget file that does not say what it must."""


class DataError(CompressError):
    """A data set that is absent, incomplete or malformed."""


class ModelFileError(CompressError):
    """A model or checkpoint file that is missing, corrupt, or not what its name says."""


class NetworkError(CompressError):
    """A network that cannot be built, traced, cut or exported as asked."""


class TrainingError(CompressError):
    """A training that cannot go on, e.g. because the loss is not a number."""


class MachineError(CompressError):
    """Something that the environment lacks: a package, a device, disk space."""

    exit_code = 3


def suggestion(name: str, known: Iterable[str]) -> str:
    """Says which of `known` is nearest to `name`, and lists them all.

    Args:
        name: what the user wrote.
        known: every name that exists.

    Returns:
        ``"did you mean 'x'? known: a, b, x"``, without the question if nothing is near.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    question = f"did you mean {near[0]!r}? " if near else ""
    return f"{question}known: {', '.join(names)}"

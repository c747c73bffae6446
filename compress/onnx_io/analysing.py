"""What no rule looked out for in a hostile model is an error about the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from compress.errors import CompressError, ModelFileError


@contextmanager
def analysing() -> Iterator[None]:
    """Turns what an analysis trips over into an error about the model: the rules take sound graphs for granted.

    Raises:
        ModelFileError: for any other exception.
    """
    try:
        yield
    except CompressError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"the model cannot be analysed: {type(error).__name__}: {error}", next_step="export it again"
        ) from error

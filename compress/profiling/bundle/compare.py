"""Whether a board computed what the machine did that made its bundle."""

from __future__ import annotations

from pathlib import Path

from compress.artifact import require_file
from compress.errors import ModelFileError
from compress.profiling.parity import Arrays, parity
from compress.profiling.tensors import unpack

EXPECTED = "expected.bin"
OUTPUTS = "outputs.bin"


def compare(folder: Path = Path()) -> str:
    """Compares the outputs that a bundle's `run.sh` wrote with the expected ones.

    Args:
        folder: the bundle, with ``outputs.bin`` in it.

    Returns:
        the largest absolute difference, or why there is none, as a line.

    Raises:
        ModelFileError: if a file is missing or damaged.
    """
    difference, reason = parity(_arrays(folder / OUTPUTS), _arrays(folder / EXPECTED))
    return reason or f"outputs differ by {difference:.1e} at most"


def _arrays(file: Path) -> Arrays:
    try:
        return unpack(require_file(file, "arrays").read_bytes())
    except ValueError as error:
        raise ModelFileError(
            f"{file}: {error}", next_step="run ./run.sh on the board and copy the file again"
        ) from error

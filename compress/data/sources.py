"""Where images come from: what a source delivers, the registry of named sets, and where their files are looked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compress.data.split import Part
from compress.errors import DataError
from compress.registry import Registry

__all__ = [
    "ENVIRONMENT",
    "Part",
    "RawData",
    "check_labels",
    "check_sha256",
    "data_roots",
    "datasets",
    "find_set",
    "read_exact",
]

ENVIRONMENT = "COMPRESS_DATA"


@dataclass(frozen=True, eq=False)
class RawData:
    """What a source delivers, before splitting and normalising.

    Args:
        train: may lose a share to the validation split.
        test: kept apart.
        classes: labels are below this.
        validation: the source's own, where it has one.
        mean: [C], the set's own constants on the scale 0…1; none: computed on the training split.
        std: [C], see mean.
    """

    train: Part
    test: Part
    classes: int
    validation: Part | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


datasets: Registry[Callable[[Sequence[Path]], RawData]] = Registry("data set", "compress.data.sets")
"""Name → function from the folders to look in to the images."""


def data_roots(base: Path) -> list[Path]:
    """Returns the folders in which data sets are looked for, first come first.

    Args:
        base: the recipe's folder.

    Returns:
        $COMPRESS_DATA (if set), ./data, base, base/data; each once.
    """
    named = os.environ.get(ENVIRONMENT)
    roots = [*([Path(named).expanduser()] if named else []), Path("data"), base, base / "data"]
    return list(dict.fromkeys(root.resolve() for root in roots))


def find_set(
    name: str, folders: Sequence[str], files: Sequence[str], roots: Sequence[Path], *, origin: str, gz: bool = False
) -> Path:
    """Finds the folder that holds a data set's files.

    Args:
        name: of the data set.
        folders: names it goes by below a root, the preferred one first.
        files: everything that must be there.
        roots: where to look.
        origin: where the user gets it.
        gz: whether `file.gz` counts for `file`.

    Raises:
        DataError: if no folder holds them all; names what is missing, or what to put where.
    """
    partial: tuple[Path, list[str]] | None = None
    for root in roots:
        for folder in folders:
            place = root / folder
            missing = [f for f in files if not (place / f).exists() and not (gz and (place / f"{f}.gz").exists())]
            if not missing:
                return place
            if len(missing) < len(files) and partial is None:
                partial = place, missing
    if partial is not None:
        place, missing = partial
        raise DataError(f"data set {name!r} in {place} lacks {', '.join(missing)}", next_step=f"take it from {origin}")
    wanted = ", ".join(f"{folders[0]}/{file}" for file in files)
    raise DataError(
        f"data set {name!r} is not in {', '.join(map(str, roots))}",
        next_step=f"put {wanted}{' (plain or .gz)' if gz else ''} (from {origin}) into one of these folders, or set "
        f"{ENVIRONMENT} to the folder that holds {folders[0]}/",
    )


def read_exact(path: Path, file_bytes: int) -> npt.NDArray[np.uint8]:
    """Reads a file that must have exactly `file_bytes` bytes.

    Raises:
        DataError: if it has another size or cannot be read.
    """
    try:
        got = path.stat().st_size
        if got != file_bytes:
            raise _wrong(path, "size", f"{got} bytes", f"{file_bytes} bytes")
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", next_step="check its permissions") from error


def check_labels(path: Path, labels: npt.NDArray[np.integer], classes: int) -> None:
    """Refuses labels outside 0…classes-1. Raises DataError with the first offender's place."""
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        next_step = "the file is damaged or of another data set: get it again"
        raise DataError(
            f"{path}: label of image {bad[0]} is out of range",
            got=int(labels[bad[0]]),
            allowed=f"0 to {classes - 1}",
            next_step=next_step,
        )


def check_sha256(path: Path, got: str, expected: str) -> None:
    """Refuses content that is not the published one."""
    if got != expected:
        raise _wrong(path, "SHA-256", got, expected)


def _wrong(path: Path, what: str, got: str, expected: str) -> DataError:
    next_step = "delete it and unpack or download it again"
    return DataError(f"{path}: wrong {what}", got=got, allowed=expected, next_step=next_step)

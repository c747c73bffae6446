"""A NumPy archive: x_train, y_train, x_test, y_test and perhaps x_validation, y_validation. Never unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.checks import as_images, as_labels
from compress.data.sources import Part, RawData
from compress.errors import DataError

_NEEDED = ("x_train", "y_train", "x_test", "y_test")
_OPTIONAL = ("x_validation", "y_validation")


def read_npz(path: Path) -> RawData:
    """Reads the archive.

    Raises:
        DataError: if it is no archive, lacks a key, or an array has the wrong type, rank or length, or holds NaN.
    """
    arrays = _arrays(path)
    missing = [key for key in _NEEDED if key not in arrays]
    if "x_validation" in arrays or "y_validation" in arrays:
        missing += [key for key in _OPTIONAL if key not in arrays]
    if missing:
        allowed = f"{', '.join(_NEEDED)} [{', '.join(_OPTIONAL)}]"
        next_step = "write it with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
        raise DataError(f"{path} lacks {', '.join(missing)}", allowed=allowed, next_step=next_step)
    train = as_part(arrays["x_train"], arrays["y_train"], f"{path}: train")
    test = as_part(arrays["x_test"], arrays["y_test"], f"{path}: test")
    validation = None
    if "x_validation" in arrays:
        validation = as_part(arrays["x_validation"], arrays["y_validation"], f"{path}: validation")
    return RawData(train, test, classes=int(train.labels.max()) + 1, validation=validation)


def as_part(images: Any, labels: Any, where: str) -> Part:
    """Checks images and labels, alone and against each other.

    Raises:
        DataError: if they do not fit, or there are none.
    """
    x, y = as_images(images, where), as_labels(labels, where)
    if len(x) != len(y):
        raise DataError(f"{where} has {len(x)} images and {len(y)} labels", allowed="as many of each")
    if not len(x):
        raise DataError(f"{where} holds no image", next_step="add some")
    return Part(x, y)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    key = ""
    try:
        # NumPy leaves a damaged file open when it is given the path.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(f"{path} is a single array, not an archive", next_step="write it with np.savez")
            found = {}
            for key in (*_NEEDED, *_OPTIONAL):
                if key in archive.files:
                    found[key] = archive[key]
            return found
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        where = f"{path}: {key}" if key else f"{path}"
        next_step = "write it with np.savez, from arrays of numbers (no Python objects)"
        raise DataError(f"{where} cannot be read ({error})", next_step=next_step) from error

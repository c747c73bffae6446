"""The user's own `path.py:loaders`: a function without arguments that returns training, validation and test images."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.assemble import assemble, checked_normalisation
from compress.data.base import Dataset, LoaderSplit
from compress.data.npz import as_part
from compress.data.sources import Part, RawData
from compress.errors import CompressError, DataError
from compress.recipe import DataSettings
from compress.user_code import load_reference

_PARTS = ("train", "validation", "test")
_SHAPE = "a mapping with train, test and perhaps validation and classes, or a tuple (train, validation, test)"


def load_user(settings: DataSettings, base: Path, seed: int) -> Dataset:
    """Calls the user's function and wraps what it returns.

    Each part is a pair (images, labels) of arrays, a list of batches (x, y), or an iterable of such batches, e.g. a
    torch DataLoader. Arrays and lists are treated as an `.npz` is: split and normalised as the recipe says. If a part
    is an iterable, all parts are taken as the network is to see them (unless the recipe gives mean and std), and a
    validation part is needed. "classes" in the mapping saves reading the training part once to count them.

    Raises:
        CompressError: if the file or the function is missing or fails.
        DataError: if what it returns is something else.
    """
    where = settings.source
    if settings.image_size is not None:
        raise DataError(f"{where}: [data] image_size is for folders of images", next_step="resize in the function")
    returned = _called(where, base)
    classes: Any = None
    if isinstance(returned, Mapping):
        unknown = set(returned) - {*_PARTS, "classes"}
        if unknown or not {"train", "test"} <= set(returned):
            raise DataError(f"{where} returns the wrong keys", got=", ".join(map(str, returned)), allowed=_SHAPE)
        classes = returned.get("classes")
        parts = {name: returned.get(name) for name in _PARTS}
    elif isinstance(returned, tuple) and len(returned) == 3:
        parts = dict(zip(_PARTS, returned, strict=True))
    else:
        raise DataError(f"{where} returns something else", got=type(returned).__name__, allowed=_SHAPE)
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 2):
        raise DataError(f"{where}: classes", got=classes, allowed="an integer of at least 2")
    count = None if classes is None else int(classes)
    wrapped = {name: _wrapped(part, f"{where} {name}", settings) for name, part in parts.items() if part is not None}
    if all(isinstance(part, Part) for part in wrapped.values()):
        return assemble(where, _raw(wrapped, where, count), settings, seed)
    return _streamed(wrapped, where, count, settings)


def _called(where: str, base: Path) -> Any:
    function = load_reference(where, base)
    if not callable(function):
        raise DataError(f"{where} is not a function", got=type(function).__name__)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise DataError(f"{where} must need no arguments ({error})", next_step="give them defaults") from error
    try:
        return function()
    except CompressError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        next_step = "mend the function; call it from Python to see the rest"
        raise DataError(
            f"{where}: {last.filename}:{last.lineno}: {type(error).__name__}: {error}", next_step=next_step
        ) from error


def _wrapped(part: Any, where: str, settings: DataSettings) -> Part | LoaderSplit:
    if _is_pair_of_arrays(part):
        return as_part(part[0], part[1], where)
    if hasattr(part, "shape"):
        raise DataError(f"{where} is a single array", allowed="(images, labels), or an iterable of batches (x, y)")
    split = LoaderSplit(part, where=where, mean=settings.mean, std=settings.std)
    if isinstance(part, Sequence):
        return split.gathered()
    return split


def _is_pair_of_arrays(part: Any) -> bool:
    """Tells (images, labels) from a list of two batches: a batch is itself a pair."""
    return isinstance(part, tuple | list) and len(part) == 2 and not any(isinstance(x, tuple | list) for x in part)


def _raw(parts: Mapping[str, Any], where: str, classes: int | None) -> RawData:
    count = classes or int(parts["train"].labels.max()) + 1
    return RawData(parts["train"], parts["test"], classes=count, validation=parts.get("validation"))


def _streamed(parts: Mapping[str, Any], where: str, classes: int | None, settings: DataSettings) -> Dataset:
    if "validation" not in parts:
        next_step = "return one, or return train as arrays"
        raise DataError(f"{where} returns no validation part; a stream cannot be split", next_step=next_step)
    splits = {name: _as_stream(part, f"{where} {name}", settings) for name, part in parts.items()}
    shape = splits["train"].input_shape
    checked_normalisation(settings.mean, settings.std, shape[0])
    count = classes or splits["train"].largest_label() + 1
    if count < 2:
        raise DataError(f"{where}: fewer than two classes", got=count)
    for name, split in splits.items():
        split.classes = count
        if split.input_shape != shape:
            got = f"{list(split.input_shape)} in {name}, {list(shape)} in train"
            raise DataError(f"{where}: images of different shapes", got=got, allowed="one [C, H, W]")
    return Dataset(where, splits["train"], splits["validation"], splits["test"], count, shape)


def _as_stream(part: Part | LoaderSplit, where: str, settings: DataSettings) -> LoaderSplit:
    if isinstance(part, LoaderSplit):
        return part
    return LoaderSplit([(part.images, part.labels)], where=where, mean=settings.mean, std=settings.std)

"""From a recipe's [data] table to a data set."""

from __future__ import annotations

from pathlib import Path

from compress.data.assemble import assemble
from compress.data.base import Dataset
from compress.data.image_folder import read_folder
from compress.data.npz import read_npz
from compress.data.sources import ENVIRONMENT, RawData, data_roots, datasets
from compress.data.user import load_user
from compress.errors import DataError, suggestion
from compress.recipe import DataSettings
from compress.user_code import is_reference


def load_dataset(settings: DataSettings, *, base: Path, seed: int) -> Dataset:
    """Reads the images that a recipe asks for.

    `source` is, in this order: the user's own `path.py:function`; the name of a registered set; an `.npz` file; a
    folder of images. Relative paths count from `base`, then from `data_roots(base)`; a folder that is called like a set
    is written with a leading `./`.

    Args:
        settings: the recipe's [data].
        base: the recipe's folder.
        seed: chooses the validation images, where the source has none of its own. Test images do not depend on it.

    Raises:
        DataError: if files are missing or malformed; says which, and what to do.
    """
    if is_reference(settings.source):
        return load_user(settings, base, seed)
    try:
        raw = _read(settings, base)
    except OSError as error:
        where = error.filename or settings.source
        raise DataError(f"{where}: cannot be read ({error.strerror})", next_step="check its permissions") from error
    return assemble(settings.source, raw, settings, seed)


def _read(settings: DataSettings, base: Path) -> RawData:
    source = settings.source
    roots = data_roots(base)
    if source in datasets:
        return datasets.get(source)(roots)
    places = [place / Path(source).expanduser() for place in dict.fromkeys([base.resolve(), *roots])]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(
            f"[data] source {source!r} is neither a known data set nor a file or folder below "
            f"{', '.join(map(str, dict.fromkeys([base.resolve(), *roots])))}",
            next_step=f"{suggestion(source, datasets)}; or give a folder of images, an .npz or path.py:function, from "
            f"the recipe's folder or from {ENVIRONMENT}",
        )
    if found.is_dir():
        return read_folder(found, settings.image_size)
    if found.suffix.lower() == ".npz":
        return read_npz(found)
    allowed = "a folder of images, an .npz, or path.py:function"
    raise DataError(f"[data] source {found} is neither", got=found.suffix or "no suffix", allowed=allowed)

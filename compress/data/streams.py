"""A split that a user's own iterable delivers batch by batch, e.g. a torch DataLoader; nothing is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from compress.data.arrays import ArraySplit
from compress.data.augment import Augment, augmented
from compress.data.checks import as_images, as_labels
from compress.data.split import Batch, Images, Labels, Part, Split, normalised, require_rng
from compress.errors import CompressError, DataError

_WINDOW_IMAGES = 8192
"""A stream cannot be shuffled as a whole: images change places within windows of this many."""

RawBatch = tuple[Images, Labels]


class LoaderSplit(Split):
    """Images from an iterable of (x, y) batches of any size.

    x is float (as the network takes it) or uint8 (0…255), [N, C, H, W]; y is integer [N]; arrays or tensors. Each pass
    asks for a fresh iterator. The order is the iterable's; with `rng` images also change places within windows of
    8192, so a DataLoader that shuffles by itself decides part of the order.

    Args:
        source: the iterable; not an iterator, which could be read only once.
        where: what to call it in messages, e.g. ``data.py:loaders train``.
        mean: [C], applied as (x − mean) / std; none: values are taken as they come (uint8 as x/255).
        std: [C], see mean.
        classes: labels must be below this; none: only refused if negative.

    Raises:
        DataError: if `source` cannot be walked over more than once.
    """

    def __init__(
        self,
        source: Iterable[Any],
        *,
        where: str = "the loader",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        classes: int | None = None,
    ) -> None:
        if not isinstance(source, Iterable):
            raise DataError(f"{where} is not an iterable of batches", got=type(source).__name__)
        if isinstance(source, Iterator):
            next_step = "return a list of batches, a DataLoader, or an object whose __iter__ starts anew"
            raise DataError(f"{where} can be read only once", got=type(source).__name__, next_step=next_step)
        self.where = where
        self.classes = classes
        self._source = source
        self._mean = mean
        self._std = std
        self._shape: tuple[int, int, int] | None = None
        self._count: int | None = None

    def __len__(self) -> int:
        if self._count is None:
            self.largest_label()
        return self._count or 0

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """C, H, W of an image; reads the first batch."""
        if self._shape is None:
            next(self._raw())
        assert self._shape is not None, "_raw raises or knows the shape once it has delivered"
        return self._shape

    def largest_label(self) -> int:
        """Reads the whole stream and returns its largest label."""
        return max(int(labels.max()) for _, labels in self._raw())

    def gathered(self) -> Part:
        """Reads the whole stream into memory, as it comes."""
        images, labels = _joined(list(self._raw()))
        return Part(images, labels)

    def batches(
        self, batch_size: int, *, rng: np.random.Generator | None = None, augment: Augment | None = None
    ) -> Iterator[Batch]:
        """See `Split.batches`."""
        require_rng(rng, augment)
        raw = self._raw() if rng is None else _shuffled(self._raw(), rng)
        for images, labels in _rebatched(raw, batch_size):
            channels = images.shape[1]
            values = normalised(images, self._mean or (0.0,) * channels, self._std or (1.0,) * channels)
            if rng is not None and augment is not None:
                values = augmented(values, augment, rng)
            yield values, labels

    def take(self, count: int, rng: np.random.Generator) -> ArraySplit:
        """See `Split.take`. Reads the stream up to the last image chosen, and once more if its length is unknown."""
        wanted = np.sort(rng.permutation(len(self))[:count])
        found: list[RawBatch] = []
        seen = 0
        for x, y in self._raw():
            inside = wanted[(wanted >= seen) & (wanted < seen + len(x))] - seen
            found.append((x[inside], y[inside]))
            seen += len(x)
            if not len(wanted) or seen > wanted[-1]:
                break
        images, labels = _joined(found)
        channels = self.input_shape[0]
        mean = tuple(self._mean or (0.0,) * channels)
        std = tuple(self._std or (1.0,) * channels)
        return ArraySplit(images, labels, mean, std)

    def _raw(self) -> Iterator[RawBatch]:
        """Yields the batches as they come, checked; knows shape and length afterwards."""
        count = 0
        dtype: np.dtype[Any] | None = None
        for index, batch in enumerate(self._delivered()):
            where = f"{self.where}, batch {index}"
            if not isinstance(batch, list | tuple) or len(batch) != 2:
                raise DataError(f"{where} is not a pair (x, y)", got=type(batch).__name__)
            images, labels = as_images(batch[0], where), as_labels(batch[1], where)
            if len(images) != len(labels):
                raise DataError(f"{where} has {len(images)} images and {len(labels)} labels", allowed="as many of each")
            if not len(images):
                continue
            shape = images.shape[1:]
            if self._shape is not None and shape != self._shape:
                raise DataError(f"{where}: image shape changes", got=list(shape), allowed=list(self._shape))
            if self.classes is not None and labels.max() >= self.classes:
                allowed = f"0 to {self.classes - 1}"
                raise DataError(f"{where}: a label is too large", got=int(labels.max()), allowed=allowed)
            if dtype is not None and images.dtype != dtype:
                raise DataError(f"{where}: pixel type changes", got=str(images.dtype), allowed=str(dtype))
            dtype = images.dtype
            self._shape = shape
            count += len(images)
            yield images, labels
        if not count:
            raise DataError(f"{self.where} delivers no image", next_step="check what it iterates over")
        self._count = count

    def _delivered(self) -> Iterator[Any]:
        try:
            yield from self._source
        except CompressError:
            raise
        except Exception as error:
            raise DataError(
                f"{self.where} fails while it delivers: {type(error).__name__}: {error}",
                next_step="iterate over it in a Python session to see the whole traceback",
            ) from error


def _shuffled(batches: Iterator[RawBatch], rng: np.random.Generator) -> Iterator[RawBatch]:
    for images, labels in _rebatched(batches, _WINDOW_IMAGES):
        order = rng.permutation(len(images))
        yield images[order], labels[order]


def _rebatched(batches: Iterator[RawBatch], size: int) -> Iterator[RawBatch]:
    """Cuts and joins batches so that each but the last holds `size` images."""
    waiting: list[RawBatch] = []
    count = 0
    for images, labels in batches:
        start = 0
        while count + len(images) - start >= size:
            stop = start + size - count
            yield _joined([*waiting, (images[start:stop], labels[start:stop])])
            waiting, count, start = [], 0, stop
        if start < len(images):
            waiting.append((images[start:], labels[start:]))
            count += len(images) - start
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[RawBatch]) -> RawBatch:
    if len(parts) == 1:
        return parts[0][0], parts[0][1].copy()
    # All parts are of one type, which `_raw` has seen to.
    images = cast("Images", np.concatenate([images for images, _ in parts]))
    return images, np.concatenate([labels for _, labels in parts])

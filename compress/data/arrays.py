"""A split that lies in memory, as bytes where the source has bytes; only the batch at hand becomes floating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compress.data.augment import Augment, augmented
from compress.data.split import Batch, Images, Labels, Split, normalised, require_rng
from compress.errors import DataError


@dataclass(frozen=True, eq=False)
class ArraySplit(Split):
    """Images in one array.

    Args:
        images: uint8 (0…255) or float32 (on the scale of mean and std), [N, C, H, W].
        labels: int64 [N].
        mean: [C], on the scale 0…1.
        std: [C], on the scale 0…1, positive.

    Raises:
        DataError: if the arrays do not fit each other.
    """

    images: Images
    labels: Labels
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32):
            got = f"{self.images.dtype} {list(self.images.shape)}"
            raise DataError("images have the wrong shape or type", got=got, allowed="uint8 or float32 [N, C, H, W]")
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64:
            got = f"{self.labels.dtype} {list(self.labels.shape)} for {len(self.images)} images"
            raise DataError("labels have the wrong shape or type", got=got, allowed="int64 [N]")
        channels = self.images.shape[1]
        if len(self.mean) != channels or len(self.std) != channels:
            got = f"{len(self.mean)} and {len(self.std)}"
            raise DataError("mean and std need one value a channel", got=got, allowed=f"{channels} each")

    def __len__(self) -> int:
        return len(self.images)

    def batches(
        self, batch_size: int, *, rng: np.random.Generator | None = None, augment: Augment | None = None
    ) -> Iterator[Batch]:
        """See `Split.batches`."""
        require_rng(rng, augment)
        order = None if rng is None else rng.permutation(len(self))
        for start in range(0, len(self), batch_size):
            chosen = slice(start, start + batch_size) if order is None else order[start : start + batch_size]
            images = normalised(self.images[chosen], self.mean, self.std)
            if rng is not None and augment is not None:
                images = augmented(images, augment, rng)
            yield images, self.labels[chosen].copy()

    def take(self, count: int, rng: np.random.Generator) -> ArraySplit:
        """See `Split.take`."""
        chosen = np.sort(rng.permutation(len(self))[:count])
        return ArraySplit(self.images[chosen], self.labels[chosen], self.mean, self.std)

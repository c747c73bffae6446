"""What a part of a data set can do, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.augment import Augment

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Batch = tuple[npt.NDArray[np.float32], Labels]


@dataclass(frozen=True, eq=False)
class Part:
    """Images (uint8 or float32, [N, C, H, W]) and their labels (int64 [N]), not yet normalised."""

    images: Images
    labels: Labels


class Split(ABC):
    """Labelled images: the training, validation or test part of a data set."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def batches(
        self, batch_size: int, *, rng: np.random.Generator | None = None, augment: Augment | None = None
    ) -> Iterator[Batch]:
        """Walks over every image once.

        Args:
            batch_size: images a batch; the last batch holds what is left.
            rng: shuffles and augments, and is the only source of chance; without it images come in order.
            augment: random changes; needs `rng`.

        Yields:
            Images, float32 [N, C, H, W], normalised, the caller's to overwrite; and labels, int64 [N].

        Raises:
            ValueError: if `augment` comes without `rng`.
            DataError: if the images come from a user's loader that delivers something else.
        """

    @abstractmethod
    def take(self, count: int, rng: np.random.Generator) -> Split:
        """Returns a random subset that stays the same from pass to pass.

        Args:
            count: images wanted; a smaller split gives all it has.
            rng: chooses them.
        """


def image_chunks(images: npt.NDArray[Any]) -> Iterator[slice]:
    """Yields slices that cover all images, each of a few million values, so that a float copy of one stays small."""
    step = max(1, 2**22 // max(1, images[:1].size))
    for start in range(0, len(images), step):
        yield slice(start, start + step)


def require_rng(rng: np.random.Generator | None, augment: Augment | None) -> None:
    """Refuses random changes without a source of chance."""
    if rng is None and augment is not None and augment.kinds:
        raise ValueError("augment needs rng")


def normalised(images: Images, mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """Computes (x − mean) / std for each channel, in a new array.

    Args:
        images: [N, C, H, W]; uint8 counts as x/255, float32 as it is.
        mean: [C], on the scale 0…1.
        std: [C], on the scale 0…1.
    """
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    deviation = np.asarray(std, np.float64)
    scale = (1.0 / (unit * deviation)).astype(np.float32)[:, None, None]
    shift = (np.asarray(mean, np.float64) / deviation).astype(np.float32)[:, None, None]
    values = np.multiply(images, scale, dtype=np.float32)
    values -= shift
    return values

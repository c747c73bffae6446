"""The nouns of this package in one place: a data set, its splits, the changes of training images."""

from __future__ import annotations

from dataclasses import dataclass

from compress.data.arrays import ArraySplit
from compress.data.augment import Augment
from compress.data.split import Batch, Split
from compress.data.streams import LoaderSplit

__all__ = ["ArraySplit", "Augment", "Batch", "Dataset", "LoaderSplit", "Split"]


@dataclass(frozen=True)
class Dataset:
    """Images for training, for choices, and for the final figure; no image is in two of them.

    Args:
        name: as the recipe says it.
        train: what weights are learnt from.
        validation: what choices are made on; empty where the recipe's share is 0.
        test: what the reported accuracy is measured on, and nothing else.
        classes: number of classes; labels run from 0 to classes - 1.
        input_shape: C, H, W of one image.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    input_shape: tuple[int, int, int]

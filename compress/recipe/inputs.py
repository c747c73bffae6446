"""What a run starts from: a network and data."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from compress.recipe.base import Fraction, Positive, Settings


class ModelSettings(Settings):
    """Which network, and where its weights come from."""

    network: str = Field(description="a registered network, or the user's own `path.py:factory`")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the factory")
    checkpoint: str | None = Field(
        None, description="safetensors file with trained weights; then [train] is skipped unless it is given"
    )


class DataSettings(Settings):
    """Which images and labels, and how they are split, normalised and augmented."""

    source: str = Field(
        description="`digits`, `cifar-10`, …, a folder of images, an `.npz`, or the user's own `path.py:loaders`"
    )
    validation: Fraction = Field(0.1, description="share of the training images held out for choices")
    image_size: Positive | None = Field(None, description="side in pixels that a folder's images are resized to")
    mean: list[float] | None = Field(None, description="per channel, on the scale 0…1; default: the data set's own")
    std: list[float] | None = Field(None, description="per channel, on the scale 0…1; default: the data set's own")
    augment: list[Literal["crop", "flip", "cutout"]] = Field(
        default_factory=list, description="applied to training images, in this order"
    )
    crop_padding: Positive = Field(4, description="pixels of zero padding (after normalisation) before a random crop")
    cutout_size: Positive = Field(8, description="side in pixels of the square that Cutout blanks")

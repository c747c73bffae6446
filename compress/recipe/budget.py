"""Limits of what is deployed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.recipe.base import Positive, Settings


class Budget(Settings):
    """Limits of an artefact; whatever is not given is not limited."""

    file_bytes: Positive | None = Field(None, description="size of the deployable file")
    packed_bytes: Positive | None = Field(None, description="size of the deployable file as `compress pack` packs it")
    parameters: Positive | None = Field(None, description="weights and biases in the file")
    macs: Positive | None = Field(None, description="multiply-accumulates of one image")
    accuracy: float | None = Field(None, ge=0, le=100, description="smallest test accuracy in per cent")
    accuracy_drop: float | None = Field(None, description="points of test accuracy lost against the network before")
    latency_ratio: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="device → largest latency after / before; the interval's upper end counts"
    )
    peak_activation_bytes: Positive | None = Field(None, description="largest sum of live activations of one image")
    operators: list[str] | None = Field(None, description="the only operators that the target knows")

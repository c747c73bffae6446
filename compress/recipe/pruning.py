"""What goes, how much of it, and in how many cuts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from compress.recipe.base import Fraction, Positive, Settings


class ScheduleSettings(Settings):
    """In how many cuts the channels go."""

    name: str = Field("one-shot", description="id of the schedule, as `compress methods` lists it")
    options: dict[str, Any] = Field(default_factory=dict, description="the schedule's own knobs")


class PruneSettings(Settings):
    """Which channels go, and how many."""

    method: str = Field("filter-l1", description="id of a criterion or a search, as `compress methods` lists it")
    ratio: Fraction = Field(0.5, description="share of the cost that is to go")
    threshold: float | None = Field(
        None, ge=0, description="instead of a ratio: whatever scores no more than this goes; criteria only"
    )
    of: Literal["macs", "parameters", "channels"] = Field("macs", description="the cost that `ratio` counts")
    scope: Literal["global", "layer"] = Field(
        "layer", description="one ranking over all groups, or the same share of each group"
    )
    exclude: list[str] = Field(
        default_factory=list, description="parameter names (or prefixes ending before a dot) whose channels all stay"
    )
    couple: bool = Field(
        True, description="false: only channels inside blocks go, those that a residual sum couples stay"
    )
    minimum_channels: Positive = Field(1, description="kept in each group, whatever the scores say")
    round_to: Literal["auto"] | Positive = Field(
        1,
        description="kept channels are rounded to the nearest multiple of this; auto: to widths than which a little "
        "wider ones take more time on `target`",
    )
    target: str | None = Field(
        None,
        description="with `auto`: a device that `compress devices calibrate` measured, or `x86`, `arm`; default this "
        "machine",
    )
    weights: Literal["float32", "int8"] | None = Field(
        None, description="with `auto`: what convolutions compute with on `target`; default as [quantize] makes them"
    )
    samples: Positive = Field(128, description="training images for methods that look at data")
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own knobs")
    schedule: ScheduleSettings = Field(
        default_factory=ScheduleSettings, description="one cut, or several with training between them"
    )

    @field_validator("round_to", mode="before")
    @classmethod
    def _known_rounding(cls, value: object) -> object:
        if value == "auto" or (type(value) is int and value >= 1):
            return value
        raise ValueError("it is auto, or a number from 1 on")

    @model_validator(mode="after")
    def _a_target_serves_auto(self) -> PruneSettings:
        for name in ("target", "weights"):
            if getattr(self, name) is not None and self.round_to != "auto":
                raise ValueError(f"{name} says how auto rounds; set round_to to auto too")
        return self

    @model_validator(mode="after")
    def _ratio_or_threshold(self) -> PruneSettings:
        if self.threshold is not None and "ratio" in self.model_fields_set:
            raise ValueError("give ratio or threshold, not both")
        return self

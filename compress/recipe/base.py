"""What all tables of a recipe have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """The common behaviour of every table of a recipe: frozen, and no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class MethodSettings(Settings):
    """A registered method and its own knobs, e.g. ``{ name = "hsq-gl12", strength = 1e-5, options = {} }``."""

    name: str = Field(description="id of the method, as `compress methods` lists it")
    strength: float = Field(1e-4, ge=0, description="λ, the factor of the penalty in the loss")
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own knobs")

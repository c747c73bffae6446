"""The figures of a comparison: what several methods made of the same networks, at the same budgets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from compress.report.model import Amount, Count, Figures, LayerChannels, Percent, Share, Whole, validated


class Trial(Figures):
    """One network: pruned, trained and exported."""

    seed: Whole
    accuracy: Percent = Field(description="per cent of the test images")
    validation_accuracy: Percent | None = Field(None, description="per cent of the validation images")
    parameters: Count = Field(description="kept; single weights that have gone do not count")
    macs: Count = Field(description="kept multiply-accumulates of one image")
    file_bytes: Count | None = Field(None, description="as float32 ONNX, dead channels removed")
    seconds: Amount | None = Field(None, description="all that this method took, the shared training not counted")
    cut_seconds: Amount | None = Field(None, description="of it, those of the cut, trainings between cuts included")
    channels: tuple[LayerChannels, ...] = ()


class Failure(Figures):
    """Why there is no network."""

    seed: Whole
    reason: str


class Entry(Figures):
    """One method at one budget, over all seeds."""

    method: str = Field(description="as it is written in `--methods`")
    ratio: Share | None = Field(None, description="of the budget's cost that was to go")
    trials: tuple[Trial, ...] = ()
    failures: tuple[Failure, ...] = ()


class ComparisonFigures(Figures):
    """Everything that a comparison says of itself.

    What belongs to one seed started from the same weights, and went through the same trainings.
    """

    name: str
    by: Literal["parameters", "macs"] = Field(description="the cost that the budget counts")
    unpruned: tuple[Trial, ...] = Field((), description="the networks that all methods started from")
    entries: tuple[Entry, ...] = ()
    recipe: dict[str, Any] = Field(default_factory=dict)
    machine: dict[str, Any] = Field(default_factory=dict, description="cpu, cores, os, versions, date")
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods in order."""
        return tuple(dict.fromkeys(entry.method for entry in self.entries))

    @property
    def failed(self) -> bool:
        """Whether any network is missing."""
        return any(entry.failures for entry in self.entries)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> ComparisonFigures:
        """Validates a dictionary, as read from a comparison's JSON.

        Raises:
            CompressError: naming the first figure that does not fit.
        """
        return validated(table, cls)

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-able dictionary that `from_dict` reads back unchanged."""
        return self.model_dump(mode="json")

"""The figures of a run: the one dictionary that every other part fills and that the report draws.

Only `name` is required. Units stand in the names or in the descriptions; nothing here is computed from anything else.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compress.errors import CompressError, suggestion

# Strict: "3" or True in place of a number is a mistake of whoever collected the figures.
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Amount = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Count = Annotated[int, Field(strict=True, ge=0)]
Whole = Annotated[int, Field(strict=True)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


class Figures(BaseModel):
    """The common behaviour of every section: frozen, and no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(Figures):
    """One stage of the pipeline."""

    name: str
    seconds: Amount | None = None
    status: Literal["done", "reused"] = "done"
    figures: dict[str, Any] = Field(default_factory=dict, description="whatever the stage says of itself")


class Accuracy(Figures):
    """The accuracy after one stage, in the order of the run: the first is before, the last after."""

    stage: str = Field(description="trained, pruned, compacted, retrained, exported, rewritten, int8, …")
    split: str = Field("test", description="train, validation or test")
    accuracy: Percent = Field(description="per cent")


class Size(Figures):
    """What a network costs, whatever the machine."""

    file_bytes: Count | None = None
    parameters: Count | None = None
    macs: Count | None = Field(None, description="multiply-accumulates of one image")
    peak_activation_bytes: Count | None = None


class Sizes(Figures):
    """The network before and after."""

    before: Size = Field(default_factory=Size)
    after: Size = Field(default_factory=Size)


class Deployable(Figures):
    """The file that goes to the target."""

    path: str
    sha256: str | None = None
    format: str | None = None


class LayerChannels(Figures):
    """How many output channels of a layer are left."""

    layer: str
    before: Count
    kept: Count
    group: Whole | str | None = Field(None, description="layers of one group share their channels")

    @model_validator(mode="after")
    def _kept_were_there(self) -> LayerChannels:
        if self.kept > self.before:
            raise ValueError(f"{self.layer} keeps {self.kept} of {self.before} channels")
        return self


class WeightHistogram(Figures):
    """Weights of one layer, counted by value before and after pruning; n + 1 edges, n counts."""

    layer: str
    edges: tuple[Real, ...]
    before: tuple[Count, ...]
    after: tuple[Count, ...]

    @model_validator(mode="after")
    def _edges_fit(self) -> WeightHistogram:
        bins = len(self.edges) - 1
        if bins < 1 or len(self.before) != bins or len(self.after) != bins:
            sizes = f"{len(self.edges)} edges, {len(self.before)} and {len(self.after)} counts"
            raise ValueError(f"{self.layer} has {sizes}; n counts need n + 1 edges")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"the edges of {self.layer} do not rise")
        return self


class Epoch(Figures):
    """One pass over the training images."""

    epoch: Count
    loss: Real | None = None
    train_accuracy: Real | None = Field(None, description="per cent")
    validation_accuracy: Real | None = Field(None, description="per cent")
    learning_rate: Amount | None = None
    seconds: Amount | None = None


class Training(Figures):
    """One training of the run."""

    stage: str
    history: tuple[Epoch, ...] = ()


class OperatorCost(Figures):
    """What one node of the graph costs, in the unit of its device."""

    operator: str
    node: str = ""
    cost: Amount
    share: Share | None = Field(None, description="of the model's, 0…1")


class Latency(Figures):
    """One model on one device. The entry of a device that has no ratio is its baseline; the last is the artefact."""

    model: str
    device: str = "host"
    kind: Literal["measured", "counted", "estimated"] = Field(
        "measured", description="counted: in instructions, `instructions` and the operators' costs; else in time"
    )
    instructions: Amount | None = Field(None, description="of one inference, where they are what was counted")
    p50_ms: Amount | None = None
    p90_ms: Amount | None = None
    ratio: Amount | None = Field(None, description="to the baseline on the same device, paired")
    ratio_low: Amount | None = None
    ratio_high: Amount | None = None
    verdict: str | None = None
    load_ms: Amount | None = None
    peak_rss_bytes: Count | None = None
    file_bytes: Count | None = None
    operators: tuple[OperatorCost, ...] = ()


class BudgetRow(Figures):
    """One limit and what was measured against it; `name` is the key in budget.toml, e.g. ``latency_ratio.host``."""

    name: str
    measured: Whole | Real | str | tuple[str, ...] | None = None
    limit: Whole | Real | str | tuple[str, ...] | None = None
    passed: Annotated[bool, Field(strict=True)]
    note: str | None = None


class Blocked(Figures):
    """Dead channels that could not go, and why."""

    tensor: str
    node: str = ""
    op: str = ""
    reason: str
    channels: Count = 0
    kind: str = "idle"


class Rewrite(Figures):
    """What the rewrite of the ONNX graph did."""

    params_before: Count | None = None
    params_after: Count | None = None
    macs_before: Count | None = None
    macs_after: Count | None = None
    file_bytes_before: Count | None = None
    file_bytes_after: Count | None = None
    channels_removed: Count | None = None
    max_abs_diff: Amount | None = Field(None, description="largest difference of the outputs")
    seconds: Amount | None = None
    blocked: tuple[Blocked, ...] = ()


class LayerPhases(Figures):
    """How near the filters of one convolution are to opposites; see `compress.prune.phases`."""

    layer: str
    filters: Count
    mean: Real = Field(description="of each filter's least cosine with another one")
    random: Real = Field(description="the same of random filters")
    counts: tuple[Count, ...] = Field(description="filters by that cosine, in equal bins from -1 to 1")
    random_counts: tuple[Amount, ...]

    @model_validator(mode="after")
    def _bins_fit(self) -> LayerPhases:
        if not self.counts or len(self.counts) != len(self.random_counts):
            raise ValueError(
                f"{len(self.counts)} and {len(self.random_counts)} counts; the same number of bins is needed"
            )
        return self


class Energy(Figures):
    """The energy loss of a population of pruning states in one epoch; lower is better."""

    epoch: Count
    best_energy: Real = Field(description="of the state whose network trains")
    mean_energy: Real = Field(description="of all states")
    competing: bool = Field(True, description="false once a state is settled: no energy is measured any more")


class RunFigures(Figures):
    """Everything that a run says of itself."""

    name: str
    recipe: dict[str, Any] = Field(default_factory=dict)
    machine: dict[str, Any] = Field(default_factory=dict, description="cpu, cores, os, versions, date")
    seed: Whole | None = None
    stages: tuple[Stage, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    sizes: Sizes = Field(default_factory=Sizes)
    deployable: Deployable | None = None
    channels: tuple[LayerChannels, ...] = ()
    weights: tuple[WeightHistogram, ...] = ()
    phases: tuple[LayerPhases, ...] = ()
    energies: tuple[Energy, ...] = ()
    training: tuple[Training, ...] = ()
    latency: tuple[Latency, ...] = ()
    budget: tuple[BudgetRow, ...] = ()
    rewrite: Rewrite | None = None
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _free_tables_are_json(self) -> RunFigures:
        for where, table in [
            ("recipe", self.recipe),
            ("machine", self.machine),
            *((f"stage {stage.name}", stage.figures) for stage in self.stages),
        ]:
            try:
                json.dumps(table, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where} is not JSON ({error})") from error
        return self

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> RunFigures:
        """Validates a dictionary, as read from a report's JSON.

        Raises:
            CompressError: naming the first figure that does not fit.
        """
        return validated(table, cls)

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-able dictionary that `from_dict` reads back unchanged."""
        return self.model_dump(mode="json")


FiguresType = TypeVar("FiguresType", bound=Figures)


def validated(table: dict[str, Any], kind: type[FiguresType]) -> FiguresType:
    """Validates a dictionary of figures.

    Args:
        table: as read from a report's JSON.
        kind: the figures that it must fit.

    Raises:
        CompressError: naming the first figure that does not fit.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise _explain(error, kind) from None


def _explain(error: ValidationError, kind: type[Figures]) -> CompressError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return CompressError(f"figures: unknown section {where!r}", next_step=suggestion(where, kind.model_fields))
    message = first["msg"].removeprefix("Value error, ")
    got = None if isinstance(first["input"], dict | BaseModel) else repr(first["input"])[:80]
    return CompressError(f"figures: {where + ': ' if where else ''}{message}", got=got, next_step="mend the figures")

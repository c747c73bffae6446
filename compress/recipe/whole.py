"""A whole run as one table of tables."""

from __future__ import annotations

from pydantic import Field, model_validator

from compress.recipe.base import Settings
from compress.recipe.deploying import ExportSettings, ProfileSettings, QuantizeSettings, RewriteSettings
from compress.recipe.inputs import DataSettings, ModelSettings
from compress.recipe.pruning import PruneSettings
from compress.recipe.training import RetrainSettings, ShareSettings, TrainSettings


class Recipe(Settings):
    """A whole run."""

    seed: int = Field(0, ge=0, description="of weights, splits, shuffles and samples")
    model: ModelSettings = Field(description="which network, and where its weights come from")
    data: DataSettings = Field(description="which images and labels")
    train: TrainSettings | None = Field(None, description="the first training; none where [model] has a checkpoint")
    sparsify: TrainSettings | None = Field(None, description="a second training, with a regularizer, before the cut")
    prune: PruneSettings = Field(default_factory=PruneSettings, description="which channels go, and how many")
    retrain: RetrainSettings = Field(default_factory=RetrainSettings, description="the training after the cut")
    share: ShareSettings | None = Field(
        None, description="a last training, of few values that the weights share; needed for small packed files"
    )
    export: ExportSettings = Field(default_factory=ExportSettings, description="how the network becomes an ONNX file")
    rewrite: RewriteSettings = Field(
        default_factory=RewriteSettings, description="how the ONNX graph loses its dead channels"
    )
    quantize: QuantizeSettings = Field(
        default_factory=QuantizeSettings, description="the format of the deployable file"
    )
    profile: ProfileSettings = Field(default_factory=ProfileSettings, description="how latency is measured")
    budget: str | None = Field("budget.toml", description="file with the limits, beside the recipe")

    @property
    def rewriting(self) -> RewriteSettings:
        """The table [rewrite], with what follows from the format that the file will have."""
        integers = self.rewrite.stripes == "auto" and self.quantize.format == "int8"
        return self.rewrite.model_copy(update={"stripes": "int8"}) if integers else self.rewrite

    @model_validator(mode="after")
    def _weights_come_from_somewhere(self) -> Recipe:
        if self.train is None and self.model.checkpoint is None:
            raise ValueError("give [train], or a trained checkpoint in [model]")
        return self

"""A recipe: everything that decides what a run produces, as one validated TOML file.

Unknown keys are refused with the nearest known one; every default stands here, beside its description, and in
`docs/recipe.md`, which is made from this file.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from compress.errors import CompressError, RecipeError, suggestion

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


class DistillSettings(Settings):
    """Knowledge distillation: the loss is (1 − weight)·CE + weight·L_soft."""

    kind: Literal["kl", "logits", "mutual"] = Field(
        "kl",
        description="KL of softened outputs (·T²); mean squared logits; or KL with a teacher that learns from the "
        "student as well",
    )
    temperature: float = Field(4.0, gt=0, description="T, softens both outputs; not for `logits`")
    weight: float = Field(0.9, ge=0, le=1, description="share of the teacher's term")
    network: str | None = Field(
        None,
        description="teacher's network; default: the unpruned network of this run, with fresh weights if `mutual`",
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the teacher's factory")
    checkpoint: str | None = Field(None, description="teacher's weights; needed where `network` is given")

    @model_validator(mode="after")
    def _teacher_is_whole(self) -> DistillSettings:
        if (self.network is None) != (self.checkpoint is None):
            raise ValueError("network and checkpoint of a teacher are given together or not at all")
        return self


class TrainSettings(Settings):
    """One training: what to minimise, how fast, how long."""

    epochs: Annotated[int, Field(ge=0)] = Field(40, description="passes over the training images")
    batch_size: Positive = Field(128, description="images a step")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum, or AdamW")
    learning_rate: float = Field(0.1, gt=0, description="the peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum, AdamW's β₁")
    nesterov: bool = Field(False, description="Nesterov momentum; SGD only")
    weight_decay: float = Field(5e-4, ge=0, description="L2 factor (SGD) or decoupled decay (AdamW)")
    schedule: Literal["constant", "step", "multi-step", "cosine"] = Field("cosine", description="of the learning rate")
    step_epochs: Positive = Field(30, description="`step`: epochs between two drops")
    milestones: list[float] = Field(
        default_factory=lambda: [1 / 3, 2 / 3], description="`multi-step`: shares of the epochs at which it drops"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="`step` and `multi-step`: factor of each drop")
    warmup_epochs: float = Field(0.0, ge=0, description="linear rise of the learning rate from a tenth")
    label_smoothing: Fraction = Field(0.0, description="share of the target spread over all classes")
    gradient_clip: float | None = Field(None, gt=0, description="largest L2 norm of the whole gradient")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of forward and backward (autocast)")
    channels_last: bool = Field(True, description="memory layout of 4-D tensors; faster on CPU and GPU")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    early_stop_epochs: Positive | None = Field(
        None, description="stop after so many epochs without a better validation accuracy"
    )
    regularizer: MethodSettings | None = Field(None, description="penalty or proximal step that makes weights sparse")
    distill: DistillSettings | None = Field(None, description="learn from a teacher as well")


class RetrainSettings(TrainSettings):
    """The training after the cut."""

    weights: str = Field(
        "fine-tune", description="what becomes of the surviving weights: `fine-tune`, `from-scratch` or `rewind`"
    )
    rewind_epochs: Annotated[int, Field(ge=0)] = Field(
        0, description="`rewind`: to the weights after so many epochs of [train]; 0: to the initial ones"
    )


class ShareSettings(TrainSettings):
    """The training of shared weights: each layer's take few values, found by k-means, and these are trained."""

    conv_bits: Annotated[int, Field(ge=1, le=12)] = Field(8, description="a convolution's weights take 2^bits values")
    linear_bits: Annotated[int, Field(ge=1, le=12)] = Field(
        5, description="a linear layer's weights take 2^bits values"
    )

    @model_validator(mode="after")
    def _values_alone_are_trained(self) -> ShareSettings:
        if self.regularizer is not None or self.distill is not None:
            raise ValueError("shared values are trained by the labels alone: leave regularizer and distill out")
        return self


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
    round_to: Positive = Field(1, description="kept channels are rounded to the nearest multiple of this")
    samples: Positive = Field(128, description="training images for methods that look at data")
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own knobs")
    schedule: ScheduleSettings = Field(
        default_factory=ScheduleSettings, description="one cut, or several with training between them"
    )

    @model_validator(mode="after")
    def _ratio_or_threshold(self) -> PruneSettings:
        if self.threshold is not None and "ratio" in self.model_fields_set:
            raise ValueError("give ratio or threshold, not both")
        return self


class ExportSettings(Settings):
    """How the network becomes an ONNX file."""

    opset: Annotated[int, Field(ge=18, le=23)] = Field(18, description="version of the ONNX operators")
    dynamic_batch: bool = Field(True, description="leave the batch axis free")


class RewriteSettings(Settings):
    """How the ONNX graph loses its dead channels."""

    epsilon: float = Field(
        float(2**-24), ge=0, lt=1, description="weights below ε × their tensor's largest count as zero"
    )
    round_to: Literal["none", "auto", "all"] | Positive = Field(
        "none",
        description="dead channels that stay because that is faster: none; as many as make a multiple of this; auto: "
        "whatever is fastest on the device of [profile], or what is known of `target`; all of them",
    )
    target: str | None = Field(
        None, description="with `auto`: where the file will run, `x86` or `arm`; then nothing is measured"
    )
    tolerance: float = Field(1e-5, gt=0, description="largest difference of outputs, relative to their scale")

    @field_validator("round_to", mode="before")
    @classmethod
    def _known_rounding(cls, value: object) -> object:
        if value in ("none", "auto", "all") or (type(value) is int and value >= 1):
            return value
        raise ValueError("it is none, auto, all, or a number from 1 on")

    @field_validator("target")
    @classmethod
    def _a_target_serves_auto(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("round_to") != "auto":
            raise ValueError("it says how auto rounds; set round_to to auto too")
        return value


class QuantizeSettings(Settings):
    """The format of the deployable file: fewer bits, or fewer multiplications."""

    format: str = Field("int8", description="id of the format, as `compress methods` lists it; `none` leaves all as is")
    samples: Positive = Field(256, description="training images to calibrate on, for formats that calibrate")
    options: dict[str, Any] = Field(default_factory=dict, description="the format's own knobs")


class ProfileSettings(Settings):
    """How latency is measured."""

    device: str = Field(
        "host",
        description="where: `host`, `arm` (this machine, a board, or emulated), `arm-emu:cortex-a76`, "
        "`estimate:cortex-a72`, or a name of devices.toml",
    )
    also: list[str] = Field(
        default_factory=list,
        description="further devices for the report; one that cannot be had is left out, and that is told",
    )
    threads: Positive = Field(1, description="of ONNX Runtime, within an operator")
    blocks: Positive = Field(20, description="alternating blocks of runs; each gives one paired ratio")
    runs: Positive = Field(10, description="runs a block")
    warmup: Annotated[int, Field(ge=0)] = Field(10, description="runs before the first block")
    batch_size: Positive = Field(1, description="images a run")


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

    @model_validator(mode="after")
    def _weights_come_from_somewhere(self) -> Recipe:
        if self.train is None and self.model.checkpoint is None:
            raise ValueError("give [train], or a trained checkpoint in [model]")
        return self


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


SettingsType = TypeVar("SettingsType", bound=Settings)


def load_recipe(path: Path) -> Recipe:
    """Reads and validates a recipe.

    Raises:
        RecipeError: if the file is missing, not TOML, or says something it may not.
    """
    return load_settings(path, Recipe)


def load_budget(path: Path) -> Budget:
    """Reads and validates a budget file. Raises like `load_recipe`."""
    return load_settings(path, Budget)


def load_settings(path: Path, kind: type[SettingsType]) -> SettingsType:
    """Reads a TOML file into `kind`.

    Raises:
        RecipeError: if the file is missing, not TOML, or does not fit.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})", next_step="check the path") from error
    except ValueError as error:
        raise RecipeError(f"{path}: not valid TOML ({error})", next_step="mend that line") from error
    return validate(table, kind, str(path))


def validate(table: dict[str, Any], kind: type[SettingsType], where: str) -> SettingsType:
    """Validates a table, with one-line errors.

    Args:
        table: what the file says.
        kind: the settings it must fit.
        where: the file's name, for messages.

    Raises:
        RecipeError: naming the first key that does not fit.
    """
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise _explain(error, kind, where) from None


def _explain(error: ValidationError, kind: type[Settings], where: str) -> CompressError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, path[:-1])
        place = f" in [{'.'.join(path[:-1])}]" if path[:-1] else ""
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        return RecipeError(
            f"{where}: unknown key {path[-1]!r}{place}",
            next_step=f"write {near[0]!r}" if near else suggestion(path[-1], known),
        )
    key = ".".join(path) or "the file"
    message = first["msg"].removeprefix("Value error, ")
    got = first["input"] if not isinstance(first["input"], dict) else None
    return RecipeError(f"{where}: {key}: {message}", got=got, next_step="see docs/recipe.md for every key")


def _known_keys(kind: type[Settings], path: list[str]) -> list[str]:
    settings: Any = kind
    for part in path:
        field = settings.model_fields.get(part)
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        settings = next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), settings)
    return list(settings.model_fields)

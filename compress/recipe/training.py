"""The trainings: the first one, those with a regularizer, the one after the cut, that of shared weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from compress.recipe.base import Fraction, MethodSettings, Positive, Settings


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

"""From a network to a file, and its latency."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from compress.recipe.base import Positive, Settings


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
        None,
        description="with `auto`: where the file will run, `x86`, `arm` or a device that `compress devices calibrate` "
        "has measured; then nothing is measured",
    )
    stripes: Literal["auto", "int8", "always", "never"] = Field(
        "auto",
        description="convolutions whose kernels have stripes or columns of zeros become sums of smaller ones: auto: "
        "where that is known to be faster, in the format of [quantize]; int8: where it is for a file that is quantized "
        "to int8 later; always, where it takes fewer multiply-accumulates; never",
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
    processes: Positive = Field(
        10, description="fresh processes that the blocks are spread over; of fewer than 6 nothing is concluded"
    )
    warmup: Annotated[int, Field(ge=0)] = Field(10, description="runs before a process's first block")
    batch_size: Positive = Field(1, description="images a run")
    details: bool = Field(True, description="operators, load time and memory besides latency")

"""How many dead channels stay because that is faster, and who says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from onnx import ModelProto

from compress.channels.widths import MINIMAL, Everything, Multiple, WidthPolicy
from compress.recipe import RewriteSettings
from compress.targets.choose import is_known, target_named

Choice = Literal["none", "auto", "all"] | int
# What is tried on a machine; "auto" stands for what is known of machines of its kind.
CANDIDATES: tuple[Choice, ...] = ("none", "auto", 4, 8, 16, "all")
# Fresh processes that time the same two models disagree by up to 0.4 % (coefficient of variation).
_NOISE = 0.01


class Interval(Protocol):
    """Latency over that of another model, with its 95 % interval."""

    @property
    def ratio(self) -> float:
        """The estimate; < 1 is faster."""
        ...

    @property
    def low(self) -> float:
        """The lower end."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...


@dataclass(frozen=True)
class Latencies:
    """What was measured of some models.

    Attributes:
        target: the machine, in words.
        ratios: latency of each over that of the fastest of them.
    """

    target: str
    ratios: Sequence[Interval]


Measure = Callable[[Sequence[ModelProto]], Latencies]


@dataclass(frozen=True)
class Tried:
    """A candidate that was measured.

    Attributes:
        round_to: how it was rounded; those that give the same model are measured once.
        file_bytes: of the model.
        ratio, low, high: latency over that of the fastest candidate, with its 95 % interval.
    """

    round_to: str
    file_bytes: int
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Rounding:
    """How a model was rounded.

    Attributes:
        asked: what the settings say.
        used: none, a multiple, all, or the target whose known steps were taken.
        target: the machine that this is for; None where it does not matter.
        why: in words.
        tried: what was measured.
    """

    asked: str
    used: str
    target: str | None
    why: str
    tried: tuple[Tried, ...] = ()


def policy(settings: RewriteSettings) -> WidthPolicy:
    """Returns what decides the widths, as far as no measuring is needed.

    Raises:
        CompressError: if nothing is known of the target.
    """
    if settings.round_to == "auto":
        return target_named(settings.target).widths
    if settings.round_to == "all":
        return Everything()
    return MINIMAL if settings.round_to == "none" else Multiple(settings.round_to)


def unmeasured(settings: RewriteSettings) -> Rounding:
    """Returns what `policy` does, in words. Raises like it."""
    asked = str(settings.round_to)
    if settings.round_to != "auto":
        return Rounding(asked, asked, None, "as asked for")
    target = target_named(settings.target)
    return Rounding(asked, target.name, target.name, f"what is {target.source}; the model itself was not measured")


def candidates(settings: RewriteSettings) -> dict[Choice, RewriteSettings]:
    """Returns the settings of each candidate; without what is known of this machine's kind if nothing is."""
    chosen = CANDIDATES if is_known() else tuple(one for one in CANDIDATES if one != "auto")
    return {one: settings.model_copy(update={"round_to": one}) for one in chosen}


def fastest(models: Mapping[Choice, ModelProto], measure: Measure) -> tuple[Choice, Rounding]:
    """Chooses the smallest model that is not slower than the fastest, beyond the noise of measuring.

    Args:
        models: how it was rounded → the model. Equal models are measured once.
        measure: times models on the machine that they are for.

    Raises:
        CompressError: if they cannot be measured.
    """
    content = {choice: model.SerializeToString(deterministic=True) for choice, model in models.items()}
    distinct = sorted(
        {text: choice for choice, text in reversed(content.items())}.values(), key=lambda c: len(content[c])
    )
    if len(distinct) == 1:
        return distinct[0], Rounding("auto", _name(distinct[0]), None, "rounding makes no difference to this model")
    found = measure([models[choice] for choice in distinct])
    tried = tuple(
        Tried(_name(choice), models[choice].ByteSize(), one.ratio, one.low, one.high)
        for choice, one in zip(distinct, found.ratios, strict=True)
    )
    best = next(index for index, one in enumerate(tried) if one.low <= 1 + _NOISE)
    why = f"the smallest of {len(tried)} candidates that is as fast as the fastest of them, measured"
    return distinct[best], Rounding("auto", _name(distinct[best]), found.target, why, tried)


def _name(choice: Choice) -> str:
    return target_named(None).name if choice == "auto" else str(choice)

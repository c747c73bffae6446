"""How many dead channels stay because that is faster, and who says so."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from onnx import ModelProto

from compress.channels.widths import MINIMAL, Everything, Multiple, WidthPolicy
from compress.errors import CompressError, suggestion
from compress.recipe import RewriteSettings
from compress.rewrite.measured_widths import MeasuredWidths
from compress.rewrite.targets import targets
from compress.width_table import read_table

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
        name = _target(settings)
        table = read_table(name) if name not in targets else None
        return MeasuredWidths(table) if table is not None else targets.get(name)
    if settings.round_to == "all":
        return Everything()
    return MINIMAL if settings.round_to == "none" else Multiple(settings.round_to)


def unmeasured(settings: RewriteSettings) -> Rounding:
    """Returns what `policy` does, in words. Raises like it."""
    asked = str(settings.round_to)
    if settings.round_to != "auto":
        return Rounding(asked, asked, None, "as asked for")
    target = _target(settings)
    if target not in targets:
        return Rounding(asked, target, target, "what the device was calibrated to")
    whose = "that was named" if settings.target else "of this machine's architecture"
    return Rounding(asked, target, target, f"what is known of the target {whose}; nothing was measured")


def candidates(settings: RewriteSettings) -> dict[Choice, RewriteSettings]:
    """Returns the settings of each candidate; without what is known of this machine's kind if nothing is."""
    chosen = CANDIDATES if _architecture() in targets else tuple(one for one in CANDIDATES if one != "auto")
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
    return _architecture() if choice == "auto" else str(choice)


def _target(settings: RewriteSettings) -> str:
    """Returns the target that settings name, or that this machine is.

    Raises:
        CompressError: if nothing is known of machines like this one.
    """
    name = settings.target or _architecture()
    if settings.target is not None and name not in targets and read_table(name) is None:
        raise CompressError(
            f"unknown target {name!r}",
            next_step=f"{suggestion(name, targets)}; for a device of yours: compress devices calibrate {name}",
        )
    if settings.target is None and name not in targets:
        raise CompressError(
            f"nothing is known of the widths that suit this machine, {name}",
            allowed=", ".join(targets),
            next_step="name a target, or a number to round to",
        )
    return name


def _architecture() -> str:
    """Returns the name of the target that this machine is, or what it calls itself."""
    machine = platform.machine().lower()
    return next((name for name in targets if machine in targets.get(name).architectures), machine)

"""How many dead channels stay because that is faster, and who says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto

from compress.channels.widths import MINIMAL, Everything, Multiple, WidthPolicy
from compress.recipe import RewriteSettings
from compress.rewrite.fastest import LOSS, Found, Pairs, smallest_as_fast
from compress.targets.choose import is_known, target_named

Choice = Literal["none", "auto", "all"] | int
# What is tried on a machine; "auto" stands for what is known of machines of its kind.
CANDIDATES: tuple[Choice, ...] = ("none", "auto", 4, 8, 16, "all")
# Rounds, in usual ones, that are measured in turn until the choice is settled. Four times as many halve an interval.
_EFFORTS = (1, 4)


@dataclass(frozen=True)
class Latencies:
    """What was measured of some models.

    Attributes:
        target: the machine, in words.
        pairs: latency of one of them over that of another, by their positions.
        timed: whether more rounds make the intervals narrower.
    """

    target: str
    pairs: Pairs
    timed: bool = True


# Models, and how many times as many rounds as usual, to what was measured of them.
Measure = Callable[[Sequence[ModelProto], int], Latencies]


@dataclass(frozen=True)
class Tried:
    """A candidate that was measured.

    Attributes:
        round_to: how it was rounded; those that give the same model are measured once.
        file_bytes: of the model.
        ratio, low, high: latency over that of the reference, with its 95 % interval.
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
        reference: the fastest of them; see `compress.rewrite.fastest`. None where nothing was measured.
        uncertain: what the measuring leaves open, in words.
    """

    asked: str
    used: str
    target: str | None
    why: str
    tried: tuple[Tried, ...] = ()
    reference: str | None = None
    uncertain: tuple[str, ...] = ()


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
    """Chooses the smallest model that is shown to be as fast as the fastest; see `compress.rewrite.fastest`.

    Where that is not settled they are measured again, once, for longer.

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
    for effort in _EFFORTS:
        measured = measure([models[choice] for choice in distinct], effort)
        found = smallest_as_fast(len(distinct), measured.pairs)
        if found.settled or not measured.timed:
            break
    names = [_name(choice) for choice in distinct]
    over = [measured.pairs(one, found.reference) for one in range(len(distinct))]
    tried = tuple(
        Tried(name, models[choice].ByteSize(), one.ratio, one.low, one.high)
        for choice, name, one in zip(distinct, names, over, strict=True)
    )
    return distinct[found.chosen], Rounding(
        "auto",
        names[found.chosen],
        measured.target,
        _why(found, names),
        tried,
        names[found.reference],
        _uncertain(found, tried),
    )


def _why(found: Found, names: Sequence[str]) -> str:
    if found.chosen != found.reference:
        return (
            f"the smallest of {len(names)} candidates that is shown to lose at most {100 * LOSS:.0f} % against "
            f"the fastest, {names[found.reference]}"
        )
    if found.chosen == 0:
        return f"the smallest of {len(names)} candidates is the fastest, as far as measured"
    return (
        f"the fastest of {len(names)} candidates, as far as measured; no smaller one is shown to lose at most "
        f"{100 * LOSS:.0f} % against it"
    )


def _uncertain(found: Found, tried: Sequence[Tried]) -> tuple[str, ...]:
    reference = tried[found.reference].round_to

    def lines(positions: Sequence[int], what: str) -> list[str]:
        rows = [tried[position] for position in positions]
        return [f"whether {one.round_to} is {what} {reference}: within {one.low:.3f}–{one.high:.3f}" for one in rows]

    return (*lines(found.perhaps_as_fast, "as fast as"), *lines(found.perhaps_faster, "faster than"))


def _name(choice: Choice) -> str:
    return target_named(None).name if choice == "auto" else str(choice)

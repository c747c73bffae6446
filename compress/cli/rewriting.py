"""The options of rewriting, as settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.recipe import RewriteSettings


def rewrite_settings(
    epsilon: float | None, exact: bool, round_to: str, target: str | None, stripes: str, **others: Any
) -> RewriteSettings:
    """Returns what the options say; what is not given has its default.

    Raises:
        RecipeError: naming the option that does not fit.
    """
    from compress.recipe import OPTIONS, RewriteSettings, validate

    given = {
        "round_to": int(round_to) if round_to.isdecimal() else round_to,
        "target": target,
        "stripes": stripes,
        **others,
    }
    if exact or epsilon is not None:
        given["epsilon"] = 0.0 if exact else epsilon
    return validate(given, RewriteSettings, OPTIONS)

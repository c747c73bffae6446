"""Numbers as people read them: grouped digits, a true minus sign, no more decimals than the figure deserves."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "\u2212"


def show(value: object, digits: int = 4) -> str:
    """Returns a figure as text.

    Args:
        value: an integer is shown exactly, a float with `digits` significant digits (but never fewer than its integer
            part has), a sequence as a comma list, None as a dash.
        digits: significant digits of a float.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, float):
        return _show_float(value, digits)
    if isinstance(value, list | tuple):
        return ", ".join(show(item, digits) for item in value) or "none"
    return str(value)


def _show_float(value: float, digits: int) -> str:
    if value == 0 or not math.isfinite(value):
        return str(value) if value else "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.{min(digits, 3) - 1}e}".replace("-", MINUS)
    text = f"{value:,.{max(digits - 1 - exponent, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", MINUS)


def show_apart(value: float, other: float) -> tuple[str, str]:
    """Returns both as text, with as many digits as it takes to tell them apart.

    A figure must not fail a limit that looks the same.
    """
    for digits in range(4, 18):
        pair = show(value, digits), show(other, digits)
        if value == other or pair[0] != pair[1]:
            break
    return pair


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """Returns `value` with a fixed number of decimals, with a plus sign if `sign`; never a negative zero."""
    text = f"{value:{'+' if sign else ''},.{decimals}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def with_prefix(value: float, unit: str) -> str:
    """Returns `value` with a decimal prefix and three significant digits, e.g. ``281 kB``."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # A hair below, so that 999,600 is 1 M and not 1,000 k.
        if abs(value) >= factor * 0.9995:
            return f"{show(value / factor, 3)} {prefix}{unit}".rstrip()
    return f"{show(value, 3)} {unit}".rstrip()


def times(ratio: float, less: str, more: str, same: str = "unchanged") -> str:
    """Returns a ratio after / before in words, e.g. ``3.9× smaller``.

    Args:
        ratio: after / before, positive.
        less: the word if `ratio` < 1.
        more: the word if `ratio` > 1.
        same: what is said where the two round to the same.
    """
    factor = ratio if ratio >= 1 else 1 / ratio
    if factor < 1.005:
        return same
    decimals = 2 if factor < 2 else 1
    return f"{fixed(factor, decimals if factor < 100 else 0)}× {less if ratio < 1 else more}"


def shorten(text: str, length: int) -> str:
    """Returns `text` on one line in at most `length` characters.

    The middle goes, for both ends of a layer's name count.
    """
    clean = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    if len(clean) <= length:
        return clean
    tail = (length - 1) * 3 // 5
    return f"{clean[: length - 1 - tail]}…{clean[-tail:]}"


def shorten_all(names: Sequence[str], length: int) -> list[str]:
    """Shortens each name as `shorten` does; of those that would look alike, what differs stays."""
    short = [shorten(name, length) for name in names]
    for look in {text for text in short if short.count(text) > 1}:
        places = [place for place, text in enumerate(short) if text == look]
        alike = [names[place] for place in places]
        start = _common_start(alike)
        end = _common_start([name[start:][::-1] for name in alike])
        for place, name in zip(places, alike, strict=True):
            middle = name[start : len(name) - end]
            side = max((length - 2 - len(middle)) // 2, 0)
            tail = name[len(name) - min(side, end) :] if end else ""
            short[place] = shorten(f"{name[: min(side, start)]}…{middle}…{tail}", length)
    return short


def _common_start(names: Sequence[str]) -> int:
    length = 0
    # The first place where the signs differ, or the end of the shortest name, ends it.
    for signs in zip(*names, strict=False):
        if len(set(signs)) > 1:
            break
        length += 1
    return length

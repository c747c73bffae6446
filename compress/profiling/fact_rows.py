"""What is known of a device, as a person reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Ending of a fact's name → how its number is shown; units stand in names.
_SHOWN: dict[str, Callable[[Any], str]] = {
    "_bytes": lambda count: f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB",
    "_c": "{} °C".format,
    "_gops": "{} · 10⁹ operations/s".format,
    "_gb_per_s": "{} GB/s".format,
}
# What is looked for and not found; what cannot be told of anything else is unknown.
_NOT_THERE = {"python": "none", "runtime": "no onnxruntime"}


def fact_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns a row a fact: name without its unit, value with it.

    Args:
        facts: as `Device.facts` tells them; None is what a device does not know.
    """
    rows = []
    for name, value in facts.items():
        ending = next((one for one in _SHOWN if name.endswith(one)), "")
        if value is None or value == "":
            shown = _NOT_THERE.get(name, "unknown")
        else:
            shown = _SHOWN[ending](value) if ending else str(value)
        rows.append((name.removesuffix(ending).replace("_", " "), shown))
    return rows

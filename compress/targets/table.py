"""Widths that were measured: what convolutions cost on one device over the number of their channels."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, field_validator

from compress.artifact import read_json, user_cache, write_json
from compress.channels.graph import Array
from compress.channels.widths import Site, multiples
from compress.recipe import Settings, validate
from compress.targets.known_steps import kind

# A wider convolution has to be cheaper by this much to be worth its memory: more than what two measurements of one
# model differ by.
_WORTH = 1.02
# Beyond its last width a table goes on with its last channels, as runtimes block channels by powers of two.
PERIOD = 16
# Channels that cost less than this share of what a channel costs on average come for nothing.
_FREE = 0.5
Cost = Annotated[float, Field(gt=0)]


class WidthTable(Settings):
    """What was measured of one device. A `WidthPolicy`."""

    device: str = Field(description="its name in full")
    architecture: str = Field(description="what it calls itself")
    runtime: str = Field(description="name and version")
    unit: str = Field(description="of the costs: us or instructions")
    protocol: str = Field(description="how it was measured, in words")
    costs: dict[str, list[Cost]] = Field(
        description="`dense in float32`: kind of convolution, which of its channels, type of its weight → costs of 1, "
        "2, 3 … of them"
    )

    @field_validator("costs")
    @classmethod
    def _long_enough(cls, value: dict[str, list[float]]) -> dict[str, list[float]]:
        for name, costs in value.items():
            if len(costs) < PERIOD:
                raise ValueError(f"{name} has fewer than {PERIOD} widths")
        return value

    def kept(self, site: Site, living: int, total: int) -> int:
        """Returns the smallest width that is cheaper than `living` and than which no wider one is cheaper."""
        name = _row_of(site)
        if name not in self.costs:
            return living
        good = [width for width in range(living, total + 1) if self._suits(name, width)]
        if good[:1] == [living]:
            return living
        own = self._cost(name, living)
        return next((width for width in good if self._cost(name, width) * _WORTH < own), living)

    def paying(self, site: Site, total: int) -> Array:
        """See `WidthPolicy.paying`."""
        name = _row_of(site)
        if name not in self.costs:
            return multiples(1, total)
        measured = self.costs[name]
        channel = max(0.0, (measured[-1] - measured[0]) / (len(measured) - 1))
        costs = np.array([self._cost(name, width) for width in range(1, total + 1)])
        pays = np.ones(total, dtype=bool)
        for more in range(1, min(PERIOD, total - 1) + 1):
            pays[:-more] &= costs[more:] * _WORTH > costs[:-more] + _FREE * channel * more
        return pays

    def good_widths(self, name: str) -> list[int]:
        """Returns the measured widths of a row than which no wider one is cheaper."""
        return [width for width, good in enumerate(self._good[name], 1) if good]

    def _place(self, name: str, width: int) -> int:
        """Returns the measured width that stands for `width`."""
        most = len(self.costs[name])
        return width if width <= most else most - PERIOD + 1 + (width - (most - PERIOD + 1)) % PERIOD

    def _cost(self, name: str, width: int) -> float:
        place = self._place(name, width)
        fixed = self._fixed[name]
        return fixed + (self.costs[name][place - 1] - fixed) * width / place

    def _suits(self, name: str, width: int) -> bool:
        return self._good[name][self._place(name, width) - 1]

    @cached_property
    def _fixed(self) -> dict[str, float]:
        """For each row what no channel costs: what the last period leaves when it is drawn out to no channels."""
        found = {}
        for name, costs in self.costs.items():
            period = min(PERIOD, len(costs) - 1)
            channel = (costs[-1] - costs[-1 - period]) / period
            found[name] = float(np.clip(costs[-1] - channel * len(costs), 0, min(costs)))
        return found

    @cached_property
    def _good(self) -> dict[str, list[bool]]:
        """For each row and width, whether no wider one is cheaper."""
        found = {}
        for name, costs in self.costs.items():
            least, good = float("inf"), []
            for cost in reversed(costs):
                good.append(cost <= least * _WORTH)
                least = min(least, cost)
            found[name] = good[::-1]
        return found


def _row_of(site: Site) -> str:
    """Returns the name of the row of a site's costs; empty if it is no convolution."""
    return row(kind(site), site.role, site.element) if site.node.operator == "Conv" else ""


def row(convolution: str, role: str, element: str) -> str:
    """Returns the name of a row of costs; signed or not makes no difference."""
    return f"{convolution} {role} {element.removeprefix('u')}"


def table_file(device: str) -> Path:
    """Returns where the table of a device stands, whether or not it exists."""
    return user_cache() / "widths" / (re.sub(r"[^\w.-]+", "-", device).strip("-.") + ".json")


def write_table(table: WidthTable) -> Path:
    """Keeps a table for later, and returns where.

    Raises:
        MachineError: if it cannot be written.
    """
    path = table_file(table.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, table.model_dump())
    return path


def read_table(device: str) -> WidthTable | None:
    """Returns the table of a device, or None if none was measured.

    Raises:
        CompressError: if the file is not what it must be.
    """
    path = table_file(device)
    return validate(read_json(path), WidthTable, str(path)) if path.is_file() else None

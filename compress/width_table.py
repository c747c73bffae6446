"""What convolutions of each width cost on one device, measured: which widths are worth having there.

A table is made once a device (`compress devices calibrate`), kept in the user's cache, and read by whoever decides how
many channels stay.
"""

from __future__ import annotations

import functools
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.artifact import read_json, write_json
from compress.errors import CompressError, ModelFileError

KINDS = ("dense", "pointwise", "depthwise")
ELEMENTS = ("float32", "int8")
# Kernels work on blocks of channels whose sizes divide this: beyond a table its last such period repeats.
PERIOD = 16
# A wider layer has to be cheaper by more than this share, or it is not.
_NOISE = 0.01


@dataclass(frozen=True)
class WidthTable:
    """Costs by width.

    Attributes:
        device: what was measured.
        runtime: name and version.
        unit: of the costs.
        costs: ``kind/element`` → cost of 1, 2, … channels in and out, at least 2 × `PERIOD` of them.
    """

    device: str
    runtime: str
    unit: str
    costs: dict[str, tuple[float, ...]]

    def cost(self, kind: str, element: str, width: int) -> float | None:
        """Returns what a convolution of so many channels costs; None if the table has none of its kind."""
        known = self.costs.get(f"{kind}/{element}")
        if known is None:
            return None
        if width <= len(known):
            return known[width - 1]
        place = len(known) - (len(known) - width) % PERIOD
        return known[place - 1] * (width / place) ** (1 if kind == "depthwise" else 2)

    def cheapest(self, kind: str, element: str, living: int, total: int) -> int:
        """Returns the width from `living` to `total` that costs least; `living` unless another is really cheaper."""
        costs = [self.cost(kind, element, width) for width in range(living, total + 1)]
        known = [cost for cost in costs if cost is not None]
        if len(known) < len(costs):
            return living
        best = min(known)
        return living + known.index(best) if best < known[0] * (1 - _NOISE) else living

    def to_dict(self) -> dict[str, Any]:
        """Returns the table as a JSON value."""
        return {**vars(self), "costs": {name: list(costs) for name, costs in self.costs.items()}}


def table_path(device: str) -> Path:
    """Returns where the table of a device is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    cache = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return cache / "compress" / "widths" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', device)}.json"


def write_table(table: WidthTable) -> Path:
    """Keeps a table.

    Raises:
        MachineError: if the cache cannot be written.
    """
    path = table_path(table.device)
    write_json(path, table.to_dict())
    return path


def read_table(device: str) -> WidthTable | None:
    """Returns the table of a device, or None if there is none.

    Raises:
        ModelFileError: if what is there is no table.
    """
    path = table_path(device)
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        costs = {str(name): tuple(map(float, row)) for name, row in content["costs"].items()}
        table = WidthTable(str(content["device"]), str(content["runtime"]), str(content["unit"]), costs)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(path, device) from error
    sound = all(len(row) >= 2 * PERIOD and all(math.isfinite(c) and c > 0 for c in row) for row in costs.values())
    if not costs or not sound:
        raise _damaged(path, device)
    return table


def worthwhile(name: str, most: int) -> frozenset[int]:
    """Returns the widths up to `most` at which no wider convolution of any kind costs less.

    Args:
        name: a calibrated device, or ``device/int8``.
        most: the widest.

    Raises:
        CompressError: if there is no table of that device, or none for those numbers.
    """
    device, _, element = name.partition("/")
    path = table_path(device)
    return _worthwhile(device, element or ELEMENTS[0], most, path, path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=256)
def _worthwhile(device: str, element: str, most: int, path: Path, _: int) -> frozenset[int]:
    table = read_table(device)
    kinds = [kind for kind in KINDS if table is not None and f"{kind}/{element}" in table.costs]
    if table is None or not kinds:
        what = f"device {device!r} was not calibrated" if table is None else f"{path} has no costs of {element}"
        raise CompressError(what, next_step=f"compress devices calibrate {device}")
    return frozenset(
        width
        for width in range(1, most + 1)
        if all(table.cheapest(kind, element, width, most) == width for kind in kinds)
    )


def _damaged(path: Path, device: str) -> ModelFileError:
    return ModelFileError(f"{path} is no table of widths", next_step=f"compress devices calibrate {device}")

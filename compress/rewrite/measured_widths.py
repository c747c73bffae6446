"""Widths that a device computes well, as it was calibrated."""

from __future__ import annotations

from dataclasses import dataclass

from compress.channels.widths import Site
from compress.rewrite.known_steps import kind
from compress.width_table import WidthTable


@dataclass(frozen=True)
class MeasuredWidths:
    """Keeps dead channels where a wider convolution costs less. A `WidthPolicy`.

    Attributes:
        table: of the device.
    """

    table: WidthTable

    def kept(self, site: Site, living: int, total: int) -> int:
        """See `WidthPolicy.kept`."""
        if site.node.operator != "Conv":
            return living
        return self.table.cheapest(kind(site), site.element.removeprefix("u"), living, total)

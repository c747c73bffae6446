"""A plot as a file of its own, for papers and slides: the page's light colours, a white ground, the legend above."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from xml.sax.saxutils import escape, quoteattr

from compress.report.plot import LegendEntry, Plot
from compress.report.svg import WIDTH

_FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
_GAP = 28.0  # between panels, in pixels
_LINE = 20.0  # a row of the legend
_LETTER = 7.2  # width of a letter at 12 pixels, on the generous side: entries must not touch
_SIGN = 18.0
# Drawn in a box from (0, 0) to (14, 12).
_SHAPES = {
    "bar": '<rect width="14" height="10" y="1" rx="2" fill="{c}"/>',
    "line": '<path d="M0 6H14" stroke="{c}" stroke-width="2"/>',
    "dashed": '<path d="M0 6H14" stroke="{c}" stroke-width="2" stroke-dasharray="4 2"/>',
    "tick": '<path d="M7 0V12" stroke="{c}" stroke-width="2"/>',
    "dot": '<circle cx="7" cy="6" r="4.5" fill="{c}"/>',
    "square": '<rect x="3" y="2" width="8.5" height="8.5" fill="{c}"/>',
    "diamond": '<path d="M7 0.5L12.5 6L7 11.5L1.5 6Z" fill="{c}"/>',
    "triangle": '<path d="M7 1L12.5 11H1.5Z" fill="{c}"/>',
    "cross": '<path d="M3 2L11 10M11 2L3 10" stroke="{c}" stroke-width="3"/>',
}


def svg_document(plot: Plot) -> str:
    """Returns panels side by side with the legend above them, as an SVG document that needs nothing else."""
    sizes = [_size(panel) for panel in plot.panels]
    width = sum(size[0] for size in sizes) + _GAP * (len(sizes) - 1)
    legend, top = _legend(plot, width)
    parts, left = [], 0.0
    for panel, (panel_width, panel_height) in zip(plot.panels, sizes, strict=True):
        place = f'<svg x="{left:g}" y="{top:g}" width="{panel_width:g}" height="{panel_height:g}" '
        parts.append(panel.replace("<svg ", place, 1))
        left += panel_width + _GAP
    height = top + max(panel_height for _, panel_height in sizes)
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-8 -8 {width + 16:g} {height + 16:g}" '
        f'width="{width + 16:g}" height="{height + 16:g}" font-family={quoteattr(_FONT)}>'
        f"<title>{escape(plot.title)}</title>"
        f'<rect x="-8" y="-8" width="100%" height="100%" fill="#ffffff"/>{legend}{"".join(parts)}</svg>\n'
    )
    colours = _colours()
    return re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], text)


def _legend(plot: Plot, width: float) -> tuple[str, float]:
    """Returns the legend, and where what is below it begins."""
    parts, left, top = [], 0.0, 0.0
    for entry in plot.legend:
        wide = _SIGN + _LETTER * len(entry.label) + 16
        if left and left + wide > width:
            left, top = 0.0, top + _LINE
        parts.append(_entry(entry, left, top))
        left += wide
    return "".join(parts), top + 1.4 * _LINE if parts else 0.0


def _entry(entry: LegendEntry, left: float, top: float) -> str:
    shape = _SHAPES[entry.shape].format(c=f"var(--{entry.colour})")
    return (
        f'<g transform="translate({left:g} {top:g})">{shape}'
        f'<text x="{_SIGN:g}" y="10.5" font-size="12" fill="var(--ink)">{escape(entry.label)}</text></g>'
    )


def _size(panel: str) -> tuple[float, float]:
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', panel)
    assert found is not None
    return WIDTH, WIDTH * float(found[2]) / float(found[1])


@cache
def _colours() -> Mapping[str, str]:
    """Returns the colours of the page on paper, by the names of its style variables."""
    style = resources.files("compress.report").joinpath("style.html.jinja").read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#\w+)", style[: style.index("@media")]))

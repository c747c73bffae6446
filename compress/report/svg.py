"""One panel of a plot, as an SVG element for a page: the page's fonts, the page's colours, nothing from elsewhere.

Colours are CSS variables, so that one drawing serves light, dark and print. While matplotlib draws, each variable is
stood for by a colour that nothing else uses. The result holds no address, no date and no random id.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 330  # CSS pixels: a phone's width, a third of a desktop page

_NAMES = ("ink", "muted", "rule", "before", "after", "good", "bad", "card", "s1", "s2", "s3", "s4", "s5", "s6")
# Name of a CSS variable → the colour that stands for it while matplotlib draws.
COLOURS: Mapping[str, str] = {name: f"#fe01{index:02x}" for index, name in enumerate(_NAMES)}
SERIES = ("s1", "s2", "s3", "s4", "s5", "s6")

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a layer's name may hold dollar signs
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same layout on every machine
    "font.size": 11,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.labelsize": 11,
    "axes.edgecolor": COLOURS["rule"],
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.major.pad": 5,
    "ytick.major.pad": 6,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.h_pad": 4 / 72,
    "figure.constrained_layout.w_pad": 4 / 72,
}


def panel(name: str, height: float, alt: str, draw: Callable[[Figure], None]) -> str:
    """Draws one panel.

    Args:
        name: unique on the page; the ids inside the drawing start with it.
        height: in CSS pixels; the width is `WIDTH`.
        alt: what the panel shows, for those who do not see it.
        draw: puts axes and artists on the figure it is given.

    Returns:
        An ``<svg>`` element, the same bytes for the same input.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        # The user's own matplotlib settings must not change a report.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_SETTINGS, "svg.hashsalt": name})
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained", facecolor="none")
        FigureCanvasSVG(figure)
        draw(figure)
        stream = io.StringIO()
        with warnings.catch_warnings():
            # Only the width is guessed for a sign that the font lacks; the page's own fonts draw it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_page(stream.getvalue(), name, alt)


def horizontal(axes: Axes, labels: list[str], unit: str) -> None:
    """Dresses axes for bars or dots on rows: names on the left from the top down, values along the bottom."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    for label in axes.get_yticklabels():
        label.set_color(COLOURS["ink"])
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel(unit)


def _for_page(document: str, name: str, alt: str) -> str:
    root = ET.fromstring(document)
    used = set(re.findall(r"#([\w.-]+)", " ".join(_links(root))))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            plain = key.rpartition("}")[2]
            if plain == "id":
                if value in used:
                    element.set("id", f"{name}-{value}")
            elif plain == "href":
                element.set("href", f"#{name}-{value[1:]}")
            elif plain == "clip-path":
                element.set(plain, value.replace("url(#", f"url(#{name}-"))
            elif plain == "style":
                element.set(plain, _style(value))
            else:
                element.set(plain, _round(value) if plain in {"d", "x", "y", "transform"} else value)
        if element.tag != "text":
            element.text = (element.text or "").strip()
        element.tail = None
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-label": alt, "style": "stroke-linejoin: round"})
    for definitions in [child for child in root if child.tag == "defs" and child.find("style") is not None]:
        root.remove(definitions)
    return ET.tostring(root, encoding="unicode")


def _links(root: ET.Element) -> list[str]:
    return [
        value
        for element in root.iter()
        for key, value in element.attrib.items()
        if key.endswith("href") or key == "clip-path"
    ]


def _style(style: str) -> str:
    # The page's font is inherited.
    kept = [part.strip() for part in style.split(";") if not part.strip().startswith("font-family")]
    text = "; ".join(part for part in kept if part)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return text


def _round(numbers: str) -> str:
    short = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return re.sub(r"\s+", " ", short).strip()

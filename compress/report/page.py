"""From a template to a page: nothing is loaded, nothing runs, everything that came from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.report.markdown import figures_line, machine_value
from compress.report.plot import Plot
from compress.report.wording import show


def render(template: str, plots: Sequence[tuple[str, Plot]], context: Mapping[str, Any]) -> str:
    """Returns a page; the same bytes for the same figures.

    Args:
        template: file of this package.
        plots: name and drawing of each, in the order of the page.
        context: what the template needs besides.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("compress.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["show"] = show
    environment.filters["line"] = figures_line
    environment.filters["machine_value"] = machine_value
    drawn = [(name, plot, [Markup(panel) for panel in plot.panels]) for name, plot in plots]
    return environment.get_template(template).render({**context, "plots": drawn})

"""Several methods beside each other, at the same budget: as JSON, Markdown, an HTML page and a table."""

from compress.report.comparison.from_runs import comparison_of
from compress.report.comparison.model import ComparisonFigures
from compress.report.comparison.page import ComparisonPaths, write_comparison
from compress.report.comparison.tables import markdown_comparison, terminal_comparison

__all__ = [
    "ComparisonFigures",
    "ComparisonPaths",
    "comparison_of",
    "markdown_comparison",
    "terminal_comparison",
    "write_comparison",
]

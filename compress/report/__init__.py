"""What a run collected, as JSON, Markdown, one self-contained HTML page and a table in the terminal."""

from compress.report.markdown import markdown_table
from compress.report.model import RunFigures
from compress.report.terminal import terminal_table
from compress.report.write import ReportPaths, write_report

__all__ = ["ReportPaths", "RunFigures", "markdown_table", "terminal_table", "write_report"]

"""How the result of a check is written for others: GitHub annotations, Markdown, JUnit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import groupby
from pathlib import Path

from compress.check import BUDGET_NAME, CheckResult, Row


def github_annotations(result: CheckResult, budget: Path | None = None) -> str:
    """Returns one workflow command a violation, which GitHub shows at the budget file; empty if there is none.

    Args:
        result: of the check.
        budget: the one file that all models were held against, if it was one.
    """
    lines = []
    for row in result.violations:
        file = _property(str(budget or Path(row.model).with_name(BUDGET_NAME)))
        lines.append(f"::error file={file},title={_property('budget: ' + row.name)}::{_message(sentence(row))}\n")
    return "".join(lines)


def markdown(result: CheckResult) -> str:
    """Returns a table with a row a limit, for a job summary or a pull request."""
    verdict = "all limits kept" if result.passed else f"{len(result.violations)} of {len(result.rows)} limits exceeded"
    lines = [
        f"**Budget: {verdict}**",
        "",
        "| model | limit | before | measured | allowed | |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in result.rows:
        cells = [row.model, row.name, figure(row.before), figure(row.measured), figure(row.limit)]
        cells.append(("✓ " if row.passed else "✗ ") + row.note)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").strip() for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def junit(result: CheckResult) -> str:
    """Returns JUnit XML: a suite a model, a case a limit."""
    root = ET.Element("testsuites", tests=str(len(result.rows)), failures=str(len(result.violations)))
    for model, group in groupby(result.rows, key=lambda row: row.model):
        rows = list(group)
        failures = str(sum(not row.passed for row in rows))
        suite = ET.SubElement(root, "testsuite", name=model, tests=str(len(rows)), failures=failures)
        for row in rows:
            case = ET.SubElement(suite, "testcase", classname=model, name=row.name)
            if not row.passed:
                ET.SubElement(case, "failure", message=sentence(row), type="budget")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def sentence(row: Row) -> str:
    """Returns a row in one line: model, limit, figure, what is allowed, why."""
    parts = [f"{row.model}: {row.name}"]
    parts += [f"is {figure(row.measured)}"] if row.measured is not None else []
    word = "wanted at least" if row.name == "accuracy" else "allowed"
    parts += [f"{word} {figure(row.limit)}"] if row.limit is not None else []
    parts += [row.note] if row.note else []
    return ", ".join(parts)


def figure(value: float | list[str] | None) -> str:
    """Returns a figure for people: thousands set apart, at most four digits after the point, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}".rstrip("0").rstrip(".")


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")

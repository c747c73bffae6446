"""Writes the tables of README.md from the JSON of results: `python benchmarks/papers/table.py`."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from compress.artifact import read_json, write_text

FOLDER = Path(__file__).resolve().parent
CONTROL = "ResNet-20, filter-l1"
START, END = "<!-- tables -->\n", "<!-- end of tables -->\n"
HEAD = """\
| setting | paper | ours: test accuracy (%) | parameters left | MACs left | epochs, in all |
|---|---|--:|--:|--:|--:|
"""


def tables() -> str:
    """Returns one table a file of results."""
    return "\n".join(_table(path) for path in sorted((FOLDER / "results").glob("*.json")))


def _table(path: Path) -> str:
    content = read_json(path)
    script, _, schedule = path.stem.rpartition("-")
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in content["rows"]:
        lines.setdefault(row["setting"], []).append(row)
    data = content["rows"][0]["data"]
    images = f"{data['training_images']:,} training, {data['validation_images']:,} validation images"
    machines = sorted({f"{row['machine']['cpu']}, torch {row['machine']['torch']}" for row in content["rows"]})
    text = f"### {content['paper']}\n\n`python benchmarks/papers/{script}.py --schedule {schedule}` → "
    text += f"[{path.name}](results/{path.name}); {data['source']}, {images}; {'; '.join(machines)}\n\n{HEAD}"
    text += "".join(_line(setting, rows) for setting, rows in lines.items())
    return f"{text}\n{equal_macs(path)}" if CONTROL in lines else text


def _line(setting: str, rows: list[dict[str, Any]]) -> str:
    accuracy = spread([row["test_accuracy"] for row in rows])
    epochs = {" + ".join(f"{n} {stage}" for stage, n in row["epochs"].items()) for row in rows}
    parameters, macs = _share(rows, "parameters_percent"), _share(rows, "macs_percent")
    if "compression" in rows[0]:
        factor = statistics.fmean(row["compression"] for row in rows)
        size = statistics.fmean(row["packed_bytes"] for row in rows) / 1000
        parameters += f"; {size:.1f} KB packed ({factor:.1f}×)"
    shown = "; ".join(sorted(epochs)) or "–"
    return f"| {setting} | {rows[0]['paper'] or '–'} | {accuracy} | {parameters} | {macs} | {shown} |\n"


def equal_macs(path: Path) -> str:
    """Returns the settings of ResNet-20 that leave as many multiply-accumulates as the control, best first."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in read_json(path)["rows"]:
        lines.setdefault(row["setting"], []).append(row)
    control = [row["test_accuracy"] for row in lines[CONTROL]]
    limit = lines[CONTROL][0]["macs_percent"] + 0.01
    text = f"Against {CONTROL} ({_seeds(control)}), at {limit:.1f} % of the multiply-accumulates or less:\n\n"
    text += "| setting | points more, in the mean | its seeds | validation (%) as cut | parameters left |\n"
    text += "|---|--:|---|--:|--:|\n"
    found = [(setting, rows) for setting, rows in lines.items() if rows[0]["macs_percent"] <= limit]
    for setting, rows in sorted(found, key=lambda item: -statistics.fmean(row["test_accuracy"] for row in item[1])):
        values = [row["test_accuracy"] for row in rows]
        more = statistics.fmean(values) - statistics.fmean(control)
        cut = statistics.fmean(row["validation_accuracy_before_retraining"] for row in rows)
        if setting != CONTROL:
            shown = f"{_seeds(values)} | {cut:.1f} | {_share(rows, 'parameters_percent')}"
            text += f"| {setting} | {more:+.2f} | {shown} |\n"
    return text


def _seeds(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def spread(values: list[float]) -> str:
    """Returns mean ± sample standard deviation, and how many seeds it is of."""
    if len(values) == 1:
        return f"{values[0]:.2f} (1 seed)"
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f} ({len(values)} seeds)"


def _share(rows: list[dict[str, Any]], key: str) -> str:
    found = [row[key] for row in rows if key in row]
    return f"{statistics.fmean(found):.1f} %" if found else "all"


def renewed(readme: str) -> str:
    """Returns the text of the README with the tables as the results are."""
    before, _, rest = readme.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    path = FOLDER / "README.md"
    write_text(path, renewed(path.read_text(encoding="utf-8")))

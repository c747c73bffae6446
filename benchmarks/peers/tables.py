"""Writes the tables of README.md from the JSON beside it: `python benchmarks/peers/tables.py`."""

import json
import statistics
from pathlib import Path

HERE = Path(__file__).parent
NAMES = {
    "compress": "**compress rewrite**",
    "onnxsim": "onnxsim",
    "onnxsim_structured": "onnxsim + structured pruning, told the share",
    "onnxslim": "OnnxSlim",
    "onnxoptimizer": "onnxoptimizer",
    "onnxruntime": "ONNX Runtime, level ALL",
}
COUNTS = ("pairs", "params", "macs", "file_bytes")
SUITES = {
    "topologies": "Eight topologies, half of the channels zero or constant",
    "light": "The nine networks of onnx, half of the channels zero",
    "released": "Released models, half of the channels zero",
}


def machine(found: dict) -> str:
    facts = found["machine"]
    versions = [f"{name} {facts[name]}" for name in ("onnxruntime", "onnx", "torch") if name in facts]
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['os']}, Python {facts['python']}, {', '.join(versions)}; "
        f"load average at the end {found['load_average'][0]}; {facts['date']}."
    )


def overview(rows: list[dict]) -> list[str]:
    lines = ["| tool | files | anything went | reached the target | outputs changed (> 1e-5) | failed | median s |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for tool, name in NAMES.items():
        found = [(row, row["tools"][tool]) for row in rows if tool in row["tools"]]
        done = [(row, result) for row, result in found if "error" not in result]
        smaller = sum(result["weights"] < row["before"]["weights"] for row, result in done)
        reached = sum(result["reached"] for _, result in done)
        changed = sum(not result["unchanged"] for _, result in done)
        seconds = f"{statistics.median(result['seconds'] for _, result in done):.3f}" if done else "–"
        if any("proof_seconds" in result for _, result in done):
            seconds += f", without its proof {statistics.median(map(unproven, (result for _, result in done))):.3f}"
        cells = (name, len(found), smaller, reached, changed, len(found) - len(done), seconds)
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def unproven(result: dict) -> float:
    """Returns the seconds of a tool, those of its proof left out."""
    return result["seconds"] - result.get("proof_seconds", 0)


def beside_onnxslim(rows: list[dict]) -> str:
    """Says how the time of a rewrite compares with OnnxSlim's, file by file."""
    both = [(row["tools"]["compress"], row["tools"]["onnxslim"]) for row in rows]
    alone = [unproven(mine) / other["seconds"] for mine, other in both]
    proven = [mine["seconds"] / other["seconds"] for mine, other in both]
    return (
        f"Time over OnnxSlim's, file by file: analysis and rewriting {statistics.median(alone):.2f} in the median, "
        f"{min(alone):.2f} to {max(alone):.2f}, ahead on {sum(one < 1 for one in alone)} of {len(alone)}; "
        f"with the proof, which OnnxSlim has none of, {statistics.median(proven):.2f} in the median, "
        f"ahead on {sum(one < 1 for one in proven)}."
    )


def details(rows: list[dict]) -> list[str]:
    lines = ["| file | before | target | " + " | ".join(NAMES.values()) + " |", "|---|--:|--:|" + "--:|" * len(NAMES)]
    for row in rows:
        cells = [row["name"], f"{row['before']['weights']:,}", f"{row['target_weights']:,}"]
        lines.append("| " + " | ".join([*cells, *(cell(row["tools"].get(tool, {})) for tool in NAMES)]) + " |")
    return lines


def cell(result: dict) -> str:
    if "weights" not in result:
        return "crash" if "crash" in result.get("error", "") else "fails" if result else "–"
    changed = "" if result["unchanged"] else f", outputs off by {result['max_rel_diff']:.1g}"
    return f"{result['weights']:,}{' ✓' if result['reached'] else ''}{changed}"


def peers() -> list[str]:
    found = json.loads((HERE / "peers.json").read_text())
    lines = [machine(found)]
    for suite, title in SUITES.items():
        rows = [row for row in found["rows"].values() if row["suite"] == suite]
        if rows:
            lines += [
                "",
                f"### {title}",
                "",
                *overview(rows),
                "",
                beside_onnxslim(rows),
                "",
                "<details><summary>file by file</summary>",
                "",
            ]
            lines += [*details(rows), "", "</details>"]
    return lines


def released() -> list[str]:
    found = json.loads((HERE / "released.json").read_text())
    lines = [machine(found), ""]
    lines.append("| model | channel pairs | parameters | MACs | file bytes | largest difference | latency | s |")
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, row in found["rows"].items():
        counts = [
            change(row[f"{key}_before"], row[f"{key}_after"]) for key in ("pairs", "params", "macs", "file_bytes")
        ]
        ratio = row["latency"]
        latency = f"{ratio['ratio']:.3f}× ({ratio['low']:.3f}–{ratio['high']:.3f})" if "ratio" in ratio else "–"
        difference = f"{row['max_abs_diff']:.1e}" if row["proven"] else "not proven, kept"
        lines.append(f"| {name} | {' | '.join(counts)} | {difference} | {latency} | {row['seconds']:.1f} |")
    return lines


def change(before: int, after: int) -> str:
    return f"{before:,} → {after:,} ({100 * (after / before - 1):+.1f} %)" if before != after else f"{before:,}"


def main() -> None:
    page = HERE / "README.md"
    text = page.read_text()
    for name, lines in (("peers", peers()), ("released", released())):
        head, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition(f"<!-- end of {name} -->\n")
        text = head + start + "\n".join(lines) + "\n" + end + tail
    page.write_text(text)


if __name__ == "__main__":
    main()

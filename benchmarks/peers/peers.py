"""Every tool on the same files: what it leaves of dead channels, what it does to the outputs, how long it takes.

    python benchmarks/peers/peers.py --output benchmarks/peers/peers.json [--suite SUITE] [--case TEXT] [--tool TOOL]

Each tool runs in a process of its own, so that a crash is a row. Rows that the output file already has are kept, so a
run that was interrupted goes on; `--again` measures them anew.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import onnx
from cases import Case, cases
from tools import TOOLS
from weights import channel_pairs, weight_entries

from compress.artifact import write_json
from compress.onnx_io.cost import onnx_cost
from compress.pipeline.machine import machine_facts

HERE = Path(__file__).parent
LIMIT_SECONDS = 600
TOLERANCE = 1e-5
PACKAGES = ("onnxsim", "onnxslim", "onnxoptimizer")


def in_process(script: str, *arguments: str) -> dict[str, object]:
    """Runs a script and returns the JSON of its last line, or why there is none."""
    command = [sys.executable, str(HERE / script), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"more than {LIMIT_SECONDS} s"}
    if done.returncode < 0:
        return {"error": f"crash, signal {-done.returncode}"}
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        said = " ".join(lines[-1].split()) if lines else f"exit {done.returncode}"
        return {"error": re.sub(r"/\S*/", "", said)[:200]}
    found: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure(case: Case, tools: list[str], rows: dict[str, dict], folder: Path) -> None:
    model, target, allowed = case.build()
    if target == weight_entries(model):
        sys.stderr.write(f"{case.suite}/{case.name}: no channel of it can go\n")
        return
    source = folder / "before.onnx"
    onnx.save(model, source)
    before = {"weights": weight_entries(model), "pairs": channel_pairs(model), "params": onnx_cost(model).parameters}
    entry = rows.setdefault(f"{case.suite}/{case.name}", {"suite": case.suite, "name": case.name, "tools": {}})
    entry |= {"before": before, "target_weights": target, "allowed_weights": allowed}
    del model
    for tool in tools:
        output = folder / f"{tool}.onnx"
        row = in_process("tools.py", tool, str(source), str(output))
        if "error" not in row:
            row |= in_process("compare.py", str(source), str(output))
        if "error" not in row:
            row["unchanged"] = row["max_rel_diff"] <= TOLERANCE
            row["reached"] = row["unchanged"] and row["weights"] <= allowed
        output.unlink(missing_ok=True)
        entry["tools"][tool] = row
        sys.stderr.write(f"{case.suite}/{case.name} {tool}: {summary(row, before, target)}\n")


def summary(row: dict, before: dict, target: int) -> str:
    if "error" in row:
        return str(row["error"])
    reached = "reached" if row["reached"] else "not reached"
    return f"{before['weights']} → {row['weights']} ({target}) {reached}, {row['max_rel_diff']:.1e}, {row['seconds']} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--suite", choices=("topologies", "light", "released"))
    parser.add_argument("--case", default="", help="part of a case's name")
    parser.add_argument("--tool", choices=list(TOOLS), action="append")
    parser.add_argument("--again", action="store_true", help="measure what the file already has anew")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[1:])
    found = json.loads(arguments.output.read_text()) if arguments.output.exists() else {"rows": {}}
    rows = found["rows"]
    for case in cases():
        if arguments.suite not in (None, case.suite) or arguments.case not in case.name:
            continue
        have = rows.get(f"{case.suite}/{case.name}", {}).get("tools", {})
        tools = [tool for tool in arguments.tool or TOOLS if arguments.again or tool not in have]
        if not tools:
            continue
        with tempfile.TemporaryDirectory() as folder:
            measure(case, tools, rows, Path(folder))
        machine = machine_facts() | {name: metadata.version(name) for name in PACKAGES}
        load = [round(value, 1) for value in os.getloadavg()]
        write_json(arguments.output, {"machine": machine, "load_average": load, "seed": 0, "rows": rows})


if __name__ == "__main__":
    main()

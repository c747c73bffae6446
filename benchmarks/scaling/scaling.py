"""How seconds and memory of `compress rewrite` grow with a model, beside loading and saving it and beside OnnxSlim.

    pip install --target onnxslim-peer onnxslim
    python benchmarks/scaling/scaling.py --onnxslim onnxslim-peer --output benchmarks/scaling/scaling.json model.onnx …

Goals: analysis and rewrite of a large network within three times loading and saving, and ahead of OnnxSlim on every
model, which proves nothing; memory within three times the file. Every tool runs in a process of its own, in turns; it
does a tiny model and then this one before time is taken, so that no tool's imports are counted, not even those that
OnnxSlim makes on the way; medians of several turns. Wall time suffers from what else the machine does, CPU time hardly:
both stand in the result. A rewrite's CPU time is that of both of its processes; its memory is that of its own, what
ONNX Runtime holds of both models stands beside it. Models that the output holds already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from networks import chain, densenet121, depthwise, resnet50, wide
from onnx import ModelProto

from compress.artifact import write_json
from compress.pipeline.machine import machine_facts

MEASURE = Path(__file__).with_name("measure.py")
TOOLS = ("load_save", "analyse", "rewrite", "onnxslim")

CASES: dict[str, Callable[[], ModelProto]] = {
    **{f"resnet50 × {width}": lambda w=width: resnet50(sparse=True, width=w) for width in (0.25, 0.5, 1, 1.41, 2)},
    "resnet50 × 1, nothing dead": lambda: resnet50(sparse=False),
    "resnet50 × 2, nothing dead": lambda: resnet50(sparse=False, width=2),
    "densenet121": lambda: densenet121(sparse=True),
    **{f"{nodes} nodes": lambda n=nodes: chain(n, sparse=True) for nodes in (100, 1000, 10000)},
    **{f"{size} channels": lambda s=size: wide(s, sparse=True) for size in (500, 5000, 50000)},
    "50000 channels, depthwise": lambda: depthwise(50000, sparse=True),
}


def run(tool: str, model: Path, extra: Path | None, limit_s: float) -> dict[str, Any]:
    path = [str(Path(__file__).parents[2]), *([str(extra)] if extra else []), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(MEASURE), tool, str(model)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"no result within {limit_s:g} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the median of each figure; of what is no figure, the first."""
    failed = [one for one in runs if "failed" in one]
    if failed:
        return failed[0]
    return {
        key: round(statistics.median(one[key] for one in runs), 4) if isinstance(value, float) else value
        for key, value in runs[0].items()
    }


def row(model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in TOOLS}
    for _ in range(arguments.turns):
        for tool in TOOLS if arguments.onnxslim else TOOLS[:-1]:
            if not any("failed" in one for one in runs[tool]):
                runs[tool].append(run(tool, model, arguments.onnxslim if tool == "onnxslim" else None, arguments.limit))
    found = {tool: medians(results) for tool, results in runs.items() if results}
    base, ours, peer = (found.get(tool, {}) for tool in ("load_save", "rewrite", "onnxslim"))
    ratios = {}
    if "failed" not in base and "failed" not in ours:
        rest = {unit: ours[unit] - ours[f"proof_{unit}"] for unit in ("seconds", "cpu_seconds")}
        ratios = {
            "without_proof_to_load_save": rest["seconds"] / base["seconds"],
            "without_proof_to_load_save_cpu": rest["cpu_seconds"] / base["cpu_seconds"],
            "peak_to_file": ours["peak_mib"] / ours["file_mib"],
        }
    if peer and "failed" not in peer and "failed" not in ours:
        whole = ours["cpu_seconds"] + ours["children_cpu_seconds"]
        ratios |= {
            "without_proof_to_onnxslim": (ours["seconds"] - ours["proof_seconds"]) / peer["seconds"],
            "without_proof_to_onnxslim_cpu": (ours["cpu_seconds"] - ours["proof_cpu_seconds"]) / peer["cpu_seconds"],
            "to_onnxslim": ours["seconds"] / peer["seconds"],
            "to_onnxslim_cpu": whole / peer["cpu_seconds"],
        }
    return {"turns": arguments.turns, **found, "ratios": {name: round(value, 2) for name, value in ratios.items()}}


def models(arguments: argparse.Namespace, folder: Path, done: Collection[str]) -> Iterator[tuple[str, Path]]:
    for name, build in CASES.items():
        if name not in done and (arguments.case is None or arguments.case in name):
            path = folder / "model.onnx"
            onnx.save(build(), path)
            yield name, path
    for path in arguments.models:
        if path.stem not in done:
            yield path.stem, path


def plot(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draws seconds over the size of the file for the family whose width grows."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "scaling"
    from matplotlib import pyplot

    family = [one for name, one in rows.items() if name.startswith("resnet50") and "nothing" not in name]
    if len(family) < 2 or any("failed" in one.get(tool, {}) for one in family for tool in TOOLS):
        return
    sizes = [one["rewrite"]["file_mib"] for one in family]
    lines = {
        "load and save": [one["load_save"]["cpu_seconds"] for one in family],
        "rewrite without its proof": [o["rewrite"]["cpu_seconds"] - o["rewrite"]["proof_cpu_seconds"] for o in family],
        "rewrite": [o["rewrite"]["cpu_seconds"] + o["rewrite"]["children_cpu_seconds"] for o in family],
        "OnnxSlim": [one["onnxslim"]["cpu_seconds"] for one in family if "onnxslim" in one],
    }
    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for label, values in lines.items():
        if len(values) == len(sizes):
            axes.plot(sizes, values, marker="o", label=label)
    axes.set(
        xlabel="file, MiB", ylabel="CPU seconds", title="ResNet-50 of several widths", xlim=(0, None), ylim=(0, None)
    )
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", help="further models")
    parser.add_argument("--onnxslim", type=Path, help="folder that OnnxSlim has been installed into")
    parser.add_argument("--case", help="only built networks whose name holds this")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--limit", type=float, default=300, help="seconds for one run")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if arguments.output.is_file():
        rows = json.loads(arguments.output.read_text())["models"]
    with TemporaryDirectory() as folder:
        for name, path in models(arguments, Path(folder), list(rows)):
            rows[name] = row(path, arguments)
            sys.stderr.write(f"{name}: {json.dumps(rows[name]['ratios'])}\n")
            write_json(arguments.output, {"machine": machine_facts(), "models": rows})
    plot(rows, arguments.output.with_suffix(".svg"))


if __name__ == "__main__":
    main()

"""How well a ratio of two models repeats over fresh processes: the protocol of `profile` against the naive mean.

    python benchmarks/profiling/repeatability.py A.onnx B.onnx --processes 15 --load 0 1 --output \\
        benchmarks/profiling/repeatability.json

The naive mean times one model after the other, as many runs of each, and divides the means. Both take place in the same
processes, one after the other, so that they meet the same machine. With `--load N`, N processes that do nothing but
compute run besides. With `--arm`, instructions on the emulated cores are counted as often. With `--equal N`, the first
model is compared N times with a copy of itself: how often a difference is claimed, which should be 5 % or less.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from compress.artifact import write_json
from compress.pipeline.machine import machine_facts
from compress.profiling import profile
from compress.profiling.python_runner import RUNNER, runner_request
from compress.recipe import ProfileSettings

NAIVE = """
import json, sys, time
sys.path[:0] = [sys.argv[1]]
from runner import make_feed, open_session, run_block
means = []
for model in sys.argv[3:]:
    session = open_session(model, 1)
    feed = make_feed(model, session, 1, 0)
    run_block(model, session, feed, 10)
    times = run_block(model, session, feed, int(sys.argv[2]))
    means.append(sum(times) / len(times))
print(json.dumps(means))
"""
BUSY = "import time\nwhile True:\n    sum(range(10000))"


def python(*arguments: str, text: str | None = None) -> str:
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def ratios(models: list[str], processes: int, settings: ProfileSettings) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"paired block minima": [], "naive mean": []}
    request = json.dumps(runner_request(models, settings, loads=0) | {"operator_runs": 0})
    runs = str(settings.blocks * settings.runs)
    for _ in range(processes):
        first, second = (np.array(m["blocks_us"]) for m in json.loads(python(str(RUNNER), text=request))["models"])
        found["paired block minima"].append(float(np.median(second.min(axis=1) / first.min(axis=1))))
        means = json.loads(python("-c", NAIVE, str(RUNNER.parent), runs, *models))
        found["naive mean"].append(means[1] / means[0])
    return found


def spread(values: list[float]) -> dict[str, float]:
    array = np.array(values)
    mean = float(array.mean())
    return {
        "mean": round(mean, 5),
        "coefficient_of_variation_percent": round(100 * float(array.std(ddof=1)) / mean, 3),
        "range_percent": round(100 * float(np.ptp(array)) / mean, 3),
    }


def under_load(models: list[str], processes: int, load: int, settings: ProfileSettings) -> dict[str, object]:
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(load)]
    try:
        before = os.getloadavg()[0]
        found = ratios(models, processes, settings)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return {
        "processes_besides": load,
        "load_average_before": round(before, 2),
        "load_average_after": round(os.getloadavg()[0], 2),
        **{name: spread(values) for name, values in found.items()},
    }


def claims(model: str, comparisons: int) -> dict[str, object]:
    settings = ProfileSettings(details=False)
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(shutil.copy(model, Path(folder) / f"{name}.onnx")) for name in "ab"]
        found = [profile(copies, settings)[1].ratio for _ in range(comparisons)]
    ratios = [one.ratio for one in found if one is not None]
    return {
        "comparisons": comparisons,
        "differences_claimed": sum(one is not None and one.verdict != "no difference measured" for one in found),
        "ratio": spread(ratios),
        "load_average_after": round(os.getloadavg()[0], 2),
    }


def counted(models: list[str], processes: int, core: str) -> dict[str, object]:
    settings = ProfileSettings(device=f"arm-emu:{core}")
    counts = np.array([[r.minimum for r in profile(list(map(Path, models)), settings)] for _ in range(processes)])
    return {
        "device": settings.device,
        "instructions": counts[0].tolist(),
        "largest_difference_percent": round(100 * float((np.ptp(counts, axis=0) / counts.min(axis=0)).max()), 5),
        "ratio": spread((counts[:, 1] / counts[:, 0]).tolist()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs=2)
    parser.add_argument("--processes", type=int, default=15)
    parser.add_argument("--load", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--equal", type=int, default=0, metavar="N")
    parser.add_argument("--arm", nargs="*", default=[], metavar="CORE")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    models = [str(Path(model).resolve()) for model in arguments.models]
    settings = ProfileSettings()
    write_json(
        arguments.output,
        {
            "command": " ".join(["python", "benchmarks/profiling/repeatability.py", *sys.argv[1:]]),
            "machine": machine_facts(),
            "models": [Path(model).name for model in models],
            "fresh_processes": arguments.processes,
            "host": [under_load(models, arguments.processes, load, settings) for load in arguments.load],
            "equal_files": claims(models[0], arguments.equal) if arguments.equal else None,
            "counted": [counted(models, min(arguments.processes, 5), core) for core in arguments.arm],
        },
    )


if __name__ == "__main__":
    main()

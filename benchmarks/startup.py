"""How fast the command line answers: `compress --help` and `compress check`, as whole processes.

    python benchmarks/startup.py --model export/digits-resnet8 --output benchmarks/startup.json

Goals: 0.2 s and 0.5 s. The fastest of several runs is what the program needs; the others are the machine's.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from compress.artifact import write_json
from compress.pipeline.machine import machine_facts

RUNS = 15
GOALS_SECONDS = {"help": 0.2, "check": 0.5}


def seconds(command: list[str]) -> list[float]:
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        taken.append(time.perf_counter() - start)
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx and budget.toml")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    python = [sys.executable, "-m", "compress"]
    commands = {"help": [*python, "--help"], "check": [*python, "check", str(arguments.model)]}
    figures = {}
    for name, command in commands.items():
        taken = seconds(command)
        figures[name] = {
            "goal_seconds": GOALS_SECONDS[name],
            "fastest_seconds": round(taken[0], 3),
            "median_seconds": round(taken[len(taken) // 2], 3),
        }
    write_json(arguments.output, {"machine": machine_facts(), "runs": RUNS, "figures": figures})
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

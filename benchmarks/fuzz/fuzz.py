"""Feeds damaged models to `explain`, `check` and `rewrite`, and counts how that ends.

    python benchmarks/fuzz/fuzz.py --cases 3000 --output benchmarks/fuzz/fuzz.json

Each case is made from its number alone. It must end, within its time limit, in a one-line error, in the original with a
reason, or in a result that agrees with the original on other inputs than those of its own proof. Cases run in a process
of their own, so that a crash or a hang is counted and does not end the campaign. `contained`: a library ended this
process, and the commands, tried on the same file, end in their one line all the same. Models of ../shared/models are
used where they are at hand, of up to --largest bytes.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

MODELS = ROOT.parent / "shared" / "models"
TOLERANCE = 1e-4
FAULTS = ("crash", "hang", "exception", "wrong")


def sources(largest):
    """Returns name → bytes of what is damaged; every second case starts from a small model."""
    import seeds

    small = {name: make().SerializeToString() for name, make in seeds.SEEDS.items()}
    files = sorted(file for file in MODELS.glob("*.onnx") if file.stat().st_size <= largest)
    return small, {file.name: file.read_bytes() for file in files}


def case(number, small, files):
    """Returns (source, what was done, bytes) of one case."""
    import mutations
    import numpy as np

    generator = np.random.default_rng([20, number])
    pool = files if files and generator.random() < 0.3 else small
    name = sorted(pool)[int(generator.integers(0, len(pool)))]
    return (name, *mutations.mutate(pool[name], generator))


def judge(data, path):
    """Runs the verbs on a damaged file; returns (outcome, text)."""
    from compress.check.verb import measure
    from compress.errors import CompressError
    from compress.onnx_io.file import read_model
    from compress.onnx_io.process import RunError
    from compress.onnx_io.runtime import borrowed_runtime
    from compress.onnx_io.session import random_inputs
    from compress.rewrite import explain, rewrite
    from compress.rewrite.difference import difference

    path.write_bytes(data)
    for verb in (measure, explain):
        try:
            verb(path)
        except CompressError as error:
            require_one_line(error)
    try:
        result = rewrite(path)
    except CompressError as error:
        require_one_line(error)
        return "refused", str(error)
    if not result.proven:
        return "kept", " | ".join(result.notes)
    if not result.notes:
        return "unchanged", ""
    original = read_model(path)
    with borrowed_runtime() as runtime:
        sessions = [runtime.open(model.SerializeToString()) for model in (original, result.model)]
        for seed, scale in ((101, 1.0), (102, 3.0), (103, 0.1)):
            feeds = {
                name: x * x.dtype.type(scale) if x.dtype.kind == "f" else x
                for name, x in random_inputs(original, seed, batch_size=3).items()
            }
            try:
                expected = sessions[0].run(feeds)
            except RunError:
                continue
            apart = difference(sessions[0].outputs, expected, sessions[1].run(feeds))
            if not apart.within(TOLERANCE):
                # Where the runtime's fusions round otherwise, the graphs themselves decide.
                plain = [runtime.open(m.SerializeToString(), optimized=False) for m in (original, result.model)]
                apart = difference(sessions[0].outputs, *(one.run(feeds) for one in plain))
            if not apart.within(TOLERANCE):
                return "wrong", f"{apart} {result.notes}"
        for session in sessions:
            session.close()
    return ("rewritten" if result.channels_removed else "tidied"), " | ".join(result.notes)


def require_one_line(error):
    if len(str(error).splitlines()) != 1:
        raise ValueError(f"an error of several lines: {error}")


def serve(largest, runtime_seconds):
    """Judges the cases whose numbers come on stdin."""
    import warnings

    from compress.onnx_io import runtime

    warnings.simplefilter("ignore")
    runtime.TIME_LIMIT_S = runtime_seconds
    small, files = sources(largest)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            number = int(line)
            name, done, data = case(number, small, files)
            started = time.monotonic()
            try:
                outcome, text = judge(data, Path(folder) / "model.onnx")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                where = traceback.extract_tb(error.__traceback__)[-1]
                text = f"{type(error).__name__}: {error} at {Path(where.filename).name}:{where.lineno}"
                outcome = "exception"
            row = {"case": number, "source": name, "done": done, "outcome": outcome, "text": text[:400]}
            print(json.dumps({**row, "seconds": round(time.monotonic() - started, 2)}), flush=True)


class Server:
    """A process that judges; replaced when it dies or hangs."""

    def __init__(self, options):
        self._command = [sys.executable, __file__, "--serve", "--largest", str(options.largest)]
        self._command += ["--runtime-seconds", str(options.runtime_seconds)]
        self._limit_s, self._largest = options.seconds, options.largest
        self._process = None

    def judge(self, number):
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        late = threading.Event()
        timer = threading.Timer(self._limit_s, lambda: (late.set(), self._process.kill()))
        timer.start()
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        code = self._process.wait()
        last = self._process.stderr.read().strip().splitlines()[-1:]
        self.close()
        row = {"case": number, "outcome": "hang" if late.is_set() else "crash", "text": f"{code} {last}"}
        return row if late.is_set() or not self._contained(number) else {**row, "outcome": "contained"}

    def _contained(self, number):
        """Tells whether the commands end in one line where the library brings down whoever calls it."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(case(number, *sources(self._largest))[2])
            for command in (["explain", path], ["rewrite", path, "-o", Path(folder) / "result.onnx"]):
                run = subprocess.run(
                    [sys.executable, "-m", "compress", *map(str, command)],
                    check=False,
                    capture_output=True,
                    text=True,
                    timeout=self._limit_s,
                    cwd=ROOT,
                )
                # What the library says before it goes stands above the line.
                ended = run.returncode == 0 or run.stderr.splitlines()[-1].startswith("error: ")
                if run.returncode not in (0, 2, 3) or not ended:
                    return False
        return True

    def close(self):
        if self._process is not None:
            self._process.kill()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                stream.close()
            self._process.wait()
            self._process = None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120, help="time limit of a case")
    parser.add_argument("--runtime-seconds", type=float, default=5, help="time limit of one run of ONNX Runtime")
    parser.add_argument("--largest", type=int, default=400_000, help="largest file of ../shared/models to damage")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", type=int, help="judge one case here, with its traceback if it raises")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.largest, options.runtime_seconds)
        return
    if options.only is not None:
        name, done, data = case(options.only, *sources(options.largest))
        print(name, done, len(data))
        with tempfile.TemporaryDirectory() as folder:
            print(judge(data, Path(folder) / "model.onnx"))
        return
    server, counts, faults, slowest = Server(options), Counter(), [], 0.0
    started = time.monotonic()
    for number in range(options.first, options.first + options.cases):
        row = server.judge(number)
        counts[row["outcome"]] += 1
        slowest = max(slowest, row.get("seconds", 0.0))
        if row["outcome"] in FAULTS:
            faults.append(row)
        print(json.dumps(row), flush=True)
    server.close()
    summary = {
        "command": f"python benchmarks/fuzz/fuzz.py --first {options.first} --cases {options.cases}",
        "cases": options.cases,
        "outcomes": dict(sorted(counts.items())),
        "faults": faults,
        "slowest_case_s": slowest,
        "total_s": round(time.monotonic() - started),
        "machine": machine(),
    }
    print(json.dumps(summary, indent=2), file=sys.stderr)
    if options.output is not None:
        options.output.write_text(json.dumps(summary, indent=2) + "\n")


def machine():
    import numpy
    import onnx
    import onnxruntime

    packages = {module.__name__: module.__version__ for module in (numpy, onnx, onnxruntime)}
    return {"machine": platform.machine(), "system": platform.system(), "python": platform.python_version(), **packages}


if __name__ == "__main__":
    main()

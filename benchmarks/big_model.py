"""Rewrites a model of more than 2 GiB and measures memory.

    python benchmarks/big_model.py --output benchmarks/big_model.json

The model is a chain of matrix products, its weights in a file beside it; half the channels between them are zero. The
command runs as a user would run it. Peaks are VmHWM, in bytes, of the command and of the process that runs the models.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[1]


def write(path, width, layers):
    """Writes the model; never holds more than one of its weights."""
    generator = np.random.default_rng(0)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(layers)],
            "g",
            [helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["N", width])],
            [helper.make_tensor_value_info(f"h{layers}", TensorProto.FLOAT, ["N", width])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    with path.with_name("weights.bin").open("wb") as file:
        for index in range(layers):
            weight = generator.standard_normal((width, width), np.float32) / np.float32(np.sqrt(width / 2))
            if index < layers - 1:
                weight[:, ::2] = 0
            tensor = model.graph.initializer.add(name=f"w{index}", data_type=TensorProto.FLOAT, dims=weight.shape)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", file.tell()), ("length", weight.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            file.write(weight.tobytes())
    path.write_bytes(model.SerializeToString())


def peaks(process):
    """Returns the peak bytes of each process below `process` while it runs, by what it runs."""
    found = {}
    while process.poll() is None:
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
                command = (status.parent / "cmdline").read_text().split("\0")
            except OSError:
                continue
            if int(fields["Pid"]) == process.pid or not descends(fields, process.pid) or "VmHWM" not in fields:
                continue
            role = "runtime" if any(part.endswith("worker.py") for part in command) else "command"
            found[role] = max(found.get(role, 0), int(fields["VmHWM"].split()[0]) * 1024)
        time.sleep(0.05)
    return found


def descends(fields, ancestor):
    parent = int(fields["PPid"])
    while parent > 1 and parent != ancestor:
        try:
            status = Path(f"/proc/{parent}/status").read_text()
        except OSError:
            return False
        parent = int(dict(line.split(":", 1) for line in status.splitlines())["PPid"])
    return parent == ancestor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "big" / "model.onnx", Path(folder) / "small" / "model.onnx"
        source.parent.mkdir()
        write(source, options.width, options.layers)
        start = time.monotonic()
        with (Path(folder) / "result.json").open("w+") as printed:
            command = [sys.executable, "-m", "compress", "rewrite", str(source), "-o", str(target), "--json"]
            process = subprocess.Popen(command, stdout=printed, cwd=ROOT)
            found = peaks(process)
            seconds = time.monotonic() - start
            printed.seek(0)
            result = json.load(printed)
        assert process.returncode == 0
        onnx.checker.check_model(str(target))
        size = {p.name: sum(f.stat().st_size for f in p.iterdir()) for p in (source.parent, target.parent)}
    summary = {
        "command": f"python benchmarks/big_model.py --width {options.width} --layers {options.layers}",
        "file_bytes_before": size["big"],
        "file_bytes_after": size["small"],
        "channels_removed": result["channels_removed"],
        "proven": result["proven"],
        "max_abs_diff": result["max_abs_diff"],
        "notes": result["notes"],
        "peak_bytes": found,
        "peak_over_file": {role: round(peak / size["big"], 2) for role, peak in found.items()},
        "seconds": round(seconds, 1),
        "machine": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
    }
    print(json.dumps(summary, indent=2))
    if options.output is not None:
        options.output.write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()

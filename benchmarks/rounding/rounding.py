"""What rounding does to latency: rewritten with none, 4, 8, 16, known steps and auto, against the original.

    python benchmarks/rounding/rounding.py MODEL.onnx MODEL.onnx:0.375 … --output benchmarks/rounding/rounding.json

After a colon stands a share: so many channels of each group are zeroed at random first, for networks that come without
dead ones. All files of a model are timed in alternating blocks; a busy machine widens the intervals, it does not shift
the ratios much.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from onnx import ModelProto, numpy_helper

from compress.artifact import write_json
from compress.channels.groups import Groups
from compress.channels.trace import trace
from compress.onnx_io.file import read_model, write_model
from compress.onnx_io.graph import channel_graph
from compress.pipeline.machine import machine_facts
from compress.pipeline.measuring import latencies
from compress.profiling import profile
from compress.recipe import ProfileSettings, RewriteSettings
from compress.rewrite import rewrite

WAYS = {
    **{str(way): {"round_to": way} for way in ("none", 4, 8, 16)},
    "known steps of x86": {"round_to": "auto", "target": "x86"},
    "auto": {"round_to": "auto"},
}
SETTINGS = ProfileSettings(blocks=40)


def with_zeros(model: ModelProto, share: float) -> ModelProto:
    """Returns a copy with a share of each group's channels zeroed: their rows, biases and scales."""
    random = np.random.default_rng(0)
    zeroed = ModelProto()
    zeroed.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in zeroed.graph.initializer}
    arrays = {name: numpy_helper.to_array(tensor).copy() for name, tensor in tensors.items()}
    for group in Groups(trace(channel_graph(model)), list(tensors)).groups:
        gone = random.permutation(group.size)[: int(share * group.size)]
        for member in group.members:
            if member.role in ("out", "scale", "shift"):
                index = [slice(None)] * arrays[member.parameter].ndim
                index[member.axis] = np.isin(member.unit, gone)
                arrays[member.parameter][tuple(index)] = 0
    for name, array in arrays.items():
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    return zeroed


def measured(model: ModelProto) -> dict[str, object]:
    measure = latencies(ProfileSettings())
    results = {way: rewrite(model, RewriteSettings(**chosen), measure=measure) for way, chosen in WAYS.items()}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{way}.onnx" for way in ("original", *WAYS)]
        for one, path in zip([model, *(result.model for result in results.values())], paths, strict=True):
            write_model(one, path)
        original, *others = profile(paths, SETTINGS)
    rows = {}
    for (way, result), report in zip(results.items(), others, strict=True):
        ratio = report.ratio
        rows[way] = {
            "used": result.rounding.used,
            "file_bytes": result.file_bytes_after,
            "macs": result.macs_after,
            "max_abs_diff": result.max_abs_diff,
            "latency_ratio": {key: round(getattr(ratio, key), 4) for key in ("ratio", "low", "high")},
        }
    return {
        "file_bytes": model.ByteSize(),
        "p50_us": round(original.p50, 1),
        "load_average": original.machine["load_average"],
        "against_the_original": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="ONNX files, each with :SHARE or without")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    figures = {}
    for text in arguments.models:
        path, _, share = text.partition(":")
        model = read_model(Path(path))
        name = Path(path).name + (f", {float(share):.1%} zeroed" if share else "")
        figures[name] = measured(with_zeros(model, float(share)) if share else model)
        sys.stdout.write(f"{name}: {figures[name]['against_the_original']}\n")
        sys.stdout.flush()
    facts = machine_facts() | {"load_average": [round(load, 2) for load in os.getloadavg()]}
    write_json(arguments.output, {"machine": facts, "settings": SETTINGS.model_dump(), "models": figures})


if __name__ == "__main__":
    main()

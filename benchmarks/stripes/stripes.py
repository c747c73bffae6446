"""When a convolution with zeros in its kernels is faster in parts: every plan beside the dense convolution, timed.

    python benchmarks/stripes/stripes.py --output benchmarks/stripes/stripes.json [--int8] [--again]
    python benchmarks/stripes/stripes.py --output benchmarks/stripes/stripes.json --rules

With `--int8` all models are quantized first: uint8 activations, int8 weights with one scale a channel.

Each case is a layer between two 1×1 convolutions, as networks have them: Conv 1×1 → Conv k×k → Relu → Conv 1×1. Models
run in alternating blocks; a ratio is that of the whole, with its 95 % interval. `--rules` asks of charges for moved
elements and operators (`compress.rewrite.kernel_plans.Tolls`) how often they choose a plan that is slower than the
dense convolution, how often they leave one out that is 5 % faster, and how long all layers take with what they choose.
"""

import argparse
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
from onnx import ModelProto, helper, numpy_helper, shape_inference
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from compress.artifact import write_text
from compress.channels.trace import trace
from compress.onnx_io.file import read_model, write_model
from compress.onnx_io.graph import channel_graph
from compress.pipeline.machine import machine_facts
from compress.profiling.runner import make_feed, open_session, run_block
from compress.profiling.statistics import paired_ratio
from compress.rewrite.kernel_plans import MEASURED, MEASURED_INT8, WHATEVER, Plan, Tolls, plans
from compress.rewrite.kernels import Convolved, convolutions
from compress.rewrite.passes.crop_kernels import CropKernels
from compress.rewrite.passes.split_kernels import Split

BLOCKS, RUNS, WARM_UP = 20, 6, 5
LAYERS = [(8, 28), (16, 8), (16, 28), (32, 14), (32, 28), (64, 7), (64, 28), (128, 14), (256, 7)]
WORTH = 0.95
WITH_REST = re.compile(r"\d+ (stripes|columns), 7 nodes")
MOVED = (0, 10, 15, 20, 25, 30, 40, 50, 60, 100, 150, 200, 250, 300, 400)
NODE = (0, 20_000, 40_000, 80_000, 120_000, 200_000, 300_000, 500_000)
CHARGES = [Tolls(moved, node, share, 2) for moved, node, share in itertools.product(MOVED, NODE, (0.8, 0.9, 1.0))]


def cases() -> Iterator[tuple[str, np.ndarray, dict[str, object]]]:
    """Yields a name, a weight, and what is said of the case: channels, size, stride, which zeros, and how many stay."""
    for channels, size in LAYERS:
        for stride, kernel in ((1, 3), (2, 3), (1, 5)):
            counts: list[tuple[int, ...]] = [(1,), (2,), (3,), (4,), (6,), (1, 2, 4), (0, 1, 1, 0, 3)]
            counts = counts if kernel == 3 else [(2,), (6,), (12,)]
            for zeros, each in itertools.product(("stripes", "columns"), counts):
                if kernel == 5 and channels not in (16, 64):
                    continue
                weight = drawn(channels, kernel, each)
                weight = weight if zeros == "stripes" else np.ascontiguousarray(weight.transpose(1, 0, 2, 3))
                facts = {"channels": channels, "size": size, "stride": stride, "kernel": kernel, "zeros": zeros}
                name = (
                    f"{channels} channels {size}×{size} {kernel}×{kernel}/{stride} {zeros} {'+'.join(map(str, each))}"
                )
                yield name, weight, facts | {"each": list(each)}
        for name, used in {"a row": [3, 4, 5], "the centre": [4], "corners": [0, 2, 6, 8], "a corner": [8]}.items():
            weight = np.random.default_rng(0).standard_normal((channels, channels, 9)).astype(np.float32)
            weight[:, :, [position for position in range(9) if position not in used]] = 0
            facts = {"channels": channels, "size": size, "stride": 1, "kernel": 3, "zeros": "positions"}
            shaped = weight.reshape(channels, channels, 3, 3)
            yield f"{channels} channels {size}×{size} 3×3/1 {name}", shaped, facts | {"each": [len(used)]}


def drawn(channels: int, kernel: int, counts: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((channels, channels, kernel * kernel)).astype(np.float32)
    for filter_, count in enumerate(itertools.islice(itertools.cycle(counts), channels)):
        weight[filter_][:, generator.permutation(kernel * kernel)[count:]] = 0
    return weight.reshape(channels, channels, kernel, kernel)


def model(weight: np.ndarray, facts: dict[str, object]) -> ModelProto:
    """Returns the layer between its neighbours."""
    channels, size, stride, kernel = (int(str(facts[name])) for name in ("channels", "size", "stride", "kernel"))
    generator = np.random.default_rng(1)
    held = {
        name: generator.standard_normal((channels, channels, 1, 1)).astype(np.float32) for name in ("before", "after")
    }
    held |= {"w": weight, "b": generator.standard_normal(channels).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "before"], ["h"]),
        helper.make_node("Conv", ["h", "w", "b"], ["c"], name="layer", pads=[kernel // 2] * 4, strides=[stride] * 2),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "after"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "layer",
        [helper.make_tensor_value_info("x", 1, (1, channels, size, size))],
        [helper.make_tensor_value_info("y", 1, (1, channels, -(-size // stride), -(-size // stride)))],
        [numpy_helper.from_array(values, name) for name, values in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def layer_of(dense: ModelProto) -> Convolved:
    return next(convolutions(trace(channel_graph(dense))))


def split(dense: ModelProto, plan: Plan) -> ModelProto:
    graph = gs.import_onnx(dense)
    (target,) = (node for node in graph.nodes if node.name == "layer")
    Split(graph, target, layer_of(dense)).into(plan)
    return exported(graph)


def cropped(dense: ModelProto) -> ModelProto:
    graph = gs.import_onnx(dense)
    CropKernels().run(graph, trace(channel_graph(dense)))
    return exported(graph)


def exported(graph: gs.Graph) -> ModelProto:
    made = gs.export_onnx(graph.cleanup().toposort(), do_type_check=False)
    made.ir_version = 8
    return made


class Inputs(CalibrationDataReader):
    def __init__(self, model: ModelProto) -> None:
        generator = np.random.default_rng(0)
        (value,) = model.graph.input
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        self.left = [{value.name: generator.standard_normal(shape).astype(np.float32)} for _ in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def quantized(model: ModelProto) -> ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        before, after = (str(Path(folder) / name) for name in ("before.onnx", "after.onnx"))
        write_model(shape_inference.infer_shapes(model), Path(before))
        quantize_static(before, after, Inputs(model), per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)  # fmt: skip
        return read_model(Path(after))


def measured(weight: np.ndarray, facts: dict[str, object], int8: bool) -> dict[str, object]:
    dense = model(weight, facts)
    if facts["zeros"] == "positions":
        found = {"cropped": (cropped(dense), None)}
    else:
        # Parted as either tolls want it; what both want is one way.
        one = layer_of(dense)
        most = one.weight.size * int(np.prod(one.outputs))
        ways = (
            plan
            for tolls in (MEASURED_INT8 if int8 else MEASURED, WHATEVER)
            for plan in plans(one, tolls)
            if plan.cost.macs < most
        )
        kinds = {(str(plan), plan.cost): plan for plan in ways}
        found = {f"{text}, {cost.nodes} nodes": (split(dense, plan), cost) for (text, cost), plan in kinds.items()}
    models = [dense, *(split_ for split_, _ in found.values())]
    minima = timed([quantized(one) for one in models] if int8 else models)
    ways = {}
    for (name, (_, cost)), times in zip(found.items(), minima[1:], strict=True):
        against = paired_ratio(times, minima[0])
        ratio = {key: round(getattr(against, key), 4) for key in ("ratio", "low", "high")}
        costs = {key: getattr(cost, key) for key in ("macs", "moved", "nodes", "weights")} if cost else {}
        ways[name] = ratio | {"cost": costs}
    positions = int(np.prod(layer_of(dense).outputs))
    return facts | {
        "int8": int8,
        "macs": int(np.prod(weight.shape)) * positions,
        "us": round(float(minima[0].min()), 1),
        "ways": ways,
    }


def timed(models: list[ModelProto]) -> list[np.ndarray]:
    """Returns the least time of each block, in microseconds, of models that run in turn in this process."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{index}.onnx") for index in range(len(models))]
        for one, path in zip(models, paths, strict=True):
            write_model(one, Path(path))
        running = [(path, open_session(path, 1)) for path in paths]
    ready = [(path, session, make_feed(path, session, 1, 0)) for path, session in running]
    for one in ready:
        run_block(*one, WARM_UP)
    blocks = [[min(run_block(*one, RUNS)) for one in ready] for _ in range(BLOCKS)]
    return list(np.array(blocks).T)


def judged(rows: list[dict], tolls: Tolls) -> dict[str, float | int]:
    """Returns what a rule makes of the cases."""
    slower = missed = 0
    total = best = dense = 0.0
    for row in rows:
        ways = [way for name, way in row["ways"].items() if tolls.rests or not WITH_REST.fullmatch(name)]
        charge = {
            id(way): way["cost"]["macs"] + tolls.moved * way["cost"]["moved"] + tolls.node * way["cost"]["nodes"]
            for way in ways
        }
        limit = tolls.share * (row["macs"] + tolls.node)
        chosen = min((way for way in ways if charge[id(way)] <= limit), key=lambda way: charge[id(way)], default=None)
        fastest = min([1.0, *(way["ratio"] for way in ways)])
        slower += chosen is not None and chosen["low"] > 1
        missed += chosen is None and fastest < WORTH
        total += np.log(chosen["ratio"] if chosen else 1.0)
        best += np.log(fastest)
        dense += 1
    return {"slower": slower, "missed": missed, "mean_ratio": round(float(np.exp(total / dense)), 4),
            "best_possible": round(float(np.exp(best / dense)), 4), "cases": int(dense)}  # fmt: skip


def rules(found: dict) -> None:
    found["rules"] = {}
    for int8, rule in ((False, MEASURED), (True, MEASURED_INT8)):
        rows = [row for row in found["rows"].values() if row["zeros"] != "positions" and row["int8"] == int8]
        if not rows:
            continue
        charges = [replace(one, rests=rule.rests) for one in CHARGES]
        ways = {tolls: judged(rows, tolls) for tolls in [*charges, rule, WHATEVER]}
        for tolls in sorted(ways, key=lambda one: (ways[one]["slower"], ways[one]["mean_ratio"]))[:12]:
            sys.stdout.write(f"{tolls}: {ways[tolls]}\n")
        sys.stdout.write(f"the rule: {rule}: {ways[rule]}\nalways: {ways[WHATEVER]}\n")
        found["rules"]["int8" if int8 else "float32"] = {
            "tolls": {"moved": rule.moved, "node": rule.node, "share": rule.share, "rests": rule.rests},
            "auto": ways[rule],
            "always": ways[WHATEVER],
        }


def save(found: dict, path: Path) -> None:
    """Writes one row a line."""
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in found["rows"].items())
    head = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items() if name != "rows"]
    rows = f' "rows": {{\n{rows}\n }}'
    text = ",\n".join([*head, rows])
    write_text(path, f"{{\n{text}\n}}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--int8", action="store_true", help="quantize the models")
    parser.add_argument("--case", default="", help="part of a case's name")
    parser.add_argument("--again", action="store_true", help="measure what the file already has anew")
    parser.add_argument("--rules", action="store_true", help="judge rules by what the file has")
    arguments = parser.parse_args()
    found = json.loads(arguments.output.read_text()) if arguments.output.exists() else {"rows": {}}
    for case, weight, facts in () if arguments.rules else cases():
        name = f"{case}, int8" if arguments.int8 else case
        if (
            arguments.case not in name
            or (name in found["rows"] and not arguments.again)
            or (arguments.int8 and facts["kernel"] == 5)
        ):
            continue
        found["rows"][name] = row = measured(weight, facts, arguments.int8)
        sys.stderr.write(f"{name}: {row['us']} us, {[(way, one['ratio']) for way, one in row['ways'].items()]}\n")
        load = [round(value, 2) for value in os.getloadavg()]
        found |= {"machine": machine_facts(), "load_average": load, "settings": {"blocks": BLOCKS, "runs": RUNS}}
        save(found, arguments.output)
    rules(found)
    save(found, arguments.output)


if __name__ == "__main__":
    main()

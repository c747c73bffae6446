"""How one network in many widths ranks by host latency, by multiply-accumulates and by ARM instructions.

    python benchmarks/profiling/ranks.py --output benchmarks/profiling/ranks.json

Pruning makes a network narrower, so a cost that is worth anything rises with the width. For each measure: inversions
(pairs of neighbouring widths of which the wider costs less), and by how much the ratio of each pair of widths differs
from the ratio of the instructions. Instructions are no time, so that host and ARM differ is all that is found.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.artifact import write_json
from compress.onnx_io.cost import onnx_cost
from compress.onnx_io.file import write_model
from compress.pipeline.machine import machine_facts
from compress.profiling import profile
from compress.profiling.emulation.cores import core
from compress.profiling.emulation.qemu import count
from compress.profiling.emulation.setup import ensure
from compress.profiling.reference import references
from compress.quantize import quantize
from compress.recipe import ProfileSettings, QuantizeSettings

CORES = ("cortex-a53", "cortex-a76")
SIDE = 28
SETTINGS = ProfileSettings(blocks=30, details=False)


def network(width: int, depthwise: bool) -> onnx.ModelProto:
    """Two blocks of 3×3 convolutions, or of depthwise and 1×1 ones, on 28×28 pixels."""
    random = np.random.default_rng(width)
    weights, nodes, last = [], [], "x"

    def convolution(inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        nonlocal last
        name = f"w{len(weights)}"
        shape = (outputs, inputs // groups, kernel, kernel)
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        nodes.append(helper.make_node("Conv", [last, name], [f"c{name}"], pads=[kernel // 2] * 4, group=groups))
        nodes.append(helper.make_node("Relu", [f"c{name}"], [f"r{name}"]))
        last = f"r{name}"

    convolution(3, width, 3)
    for _ in range(2):
        if depthwise:
            convolution(width, width, 3, width)
        convolution(width, width, 1 if depthwise else 3)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, width, 1, 1])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def inversions(costs: list[float]) -> int:
    return sum(wide < narrow for narrow, wide in itertools.pairwise(costs))


def pair_errors(costs: list[float], reference: list[float]) -> dict[str, float]:
    pairs = list(itertools.combinations(range(len(costs)), 2))
    off = [abs((costs[b] / costs[a]) / (reference[b] / reference[a]) - 1) for a, b in pairs]
    return {"median_percent": round(100 * float(np.median(off)), 1), "largest_percent": round(100 * max(off), 1)}


def family(widths: list[int], depthwise: bool, integers: bool, folder: Path) -> dict[str, object]:
    paths = []
    for width in widths:
        paths.append(folder / f"{width}.onnx")
        write_model(network(width, depthwise), paths[-1])
    macs = [float(onnx_cost(onnx.load(path)).macs) for path in paths]
    if integers:
        images = np.random.default_rng(0).standard_normal((8, 1, 3, SIDE, SIDE)).astype(np.float32)
        for index, path in enumerate(paths):
            paths[index] = path.with_suffix(".int8.onnx")
            quantize(path, paths[index], QuantizeSettings(format="int8", samples=8), list(images))
    costs: dict[str, list[float]] = {"macs": macs}
    reports = profile(paths, SETTINGS)
    costs["host, relative"] = [report.ratio.ratio if report.ratio else 1.0 for report in reports]
    feeds = [feed for feed, _ in references(paths, SETTINGS)]
    place = ensure(lambda text: print(text, file=sys.stderr))
    for name in CORES:
        # One process for all: what comes before moves a count by 0.1 % at most, and neighbours differ by more.
        counted = count(place, core(name), paths, feeds, warmup=2, runs=3, operators=False)
        costs[f"arm-emu:{name}"] = [median(one.instructions) for one in counted]
    reference = costs[f"arm-emu:{CORES[0]}"]
    return {
        "network": f"{'depthwise and 1×1' if depthwise else '3×3'}, {'int8' if integers else 'float32'}",
        "widths": widths,
        **{
            name: {
                "costs": [round(cost, 4) for cost in values],
                "inversions": inversions(values),
                f"pair_ratios_off_those_of_{CORES[0]}": pair_errors(values, reference),
            }
            for name, values in costs.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--widths", type=int, nargs=3, default=[6, 66, 3], metavar=("FIRST", "END", "STEP"))
    arguments = parser.parse_args()
    widths = list(range(*arguments.widths))
    families = []
    for depthwise, integers in itertools.product((False, True), (False, True)):
        with tempfile.TemporaryDirectory() as folder:
            families.append(family(widths, depthwise, integers, Path(folder)))
            print(families[-1]["network"], file=sys.stderr)
    write_json(
        arguments.output,
        {
            "command": " ".join(["python", "benchmarks/profiling/ranks.py", *sys.argv[1:]]),
            "machine": machine_facts(),
            "neighbouring_pairs": len(widths) - 1,
            "families": families,
        },
    )


if __name__ == "__main__":
    main()

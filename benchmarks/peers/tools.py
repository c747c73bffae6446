"""One tool on one file, in a process of its own: `python tools.py TOOL IN OUT` prints its seconds as JSON."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

Tool = Callable[[str, str], dict[str, object] | None]

SHARE = 0.5  # what onnxsim's structured pruning has to be told: the share of channels that are dead


def onnxsim() -> Tool:
    import onnx
    from onnxsim import simplify

    return lambda source, target: onnx.save(simplify(onnx.load(source))[0], target)


def onnxsim_structured() -> Tool:
    import onnx
    from onnxsim import apply_structured_pruning, simplify

    return lambda source, target: onnx.save(apply_structured_pruning(simplify(onnx.load(source))[0], SHARE), target)


def onnxslim() -> Tool:
    import onnx
    import onnxslim

    return lambda source, target: onnx.save(onnxslim.slim(onnx.load(source)), target)


def onnxoptimizer() -> Tool:
    import onnx
    import onnxoptimizer

    chosen = onnxoptimizer.get_fuse_and_elimination_passes()
    return lambda source, target: onnx.save(onnxoptimizer.optimize(onnx.load(source), chosen), target)


def onnxruntime() -> Tool:
    import onnxruntime

    def optimize(source: str, target: str) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = target
        options.log_severity_level = 4
        onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return optimize


def compress() -> Tool:
    from compress.rewrite import rewrite_file

    def rewrite(source: str, target: str) -> dict[str, object]:
        result = rewrite_file(Path(source), Path(target))
        parts = {name: value for name, value in vars(result).items() if name.endswith("_seconds")}
        return {"proven": result.proven, "notes": result.notes, **parts}

    return rewrite


TOOLS = {tool.__name__: tool for tool in (compress, onnxsim, onnxsim_structured, onnxslim, onnxoptimizer, onnxruntime)}


def main() -> None:
    name, source, target = sys.argv[1:]
    tool = TOOLS[name]()  # what a tool imports is not counted
    start = time.perf_counter()
    found = tool(source, target)
    seconds = time.perf_counter() - start
    sys.stdout.write("\n" + json.dumps({"seconds": round(seconds, 3), **(found or {})}) + "\n")


if __name__ == "__main__":
    main()

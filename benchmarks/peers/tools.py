"""One tool on one file, in a process of its own: `python tools.py TOOL IN OUT` prints its seconds as JSON.

The file is done `TURNS` times, after a tiny one and a pause each; the fastest turn counts.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from rewriting import PAUSE_S, ProofShare, tiny

TURNS = 3
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

    proof = ProofShare()

    def rewrite(source: str, target: str) -> dict[str, object]:
        proof.reset()
        result = rewrite_file(Path(source), Path(target))
        return {"proven": result.proven, "notes": result.notes, "proof_seconds": round(proof.seconds, 4)}

    return rewrite


TOOLS = {tool.__name__: tool for tool in (compress, onnxsim, onnxsim_structured, onnxslim, onnxoptimizer, onnxruntime)}


def timed(tool: Tool, source: str, target: str) -> dict[str, object]:
    time.sleep(PAUSE_S)
    start = time.perf_counter()
    found = tool(source, target)
    return {"seconds": round(time.perf_counter() - start, 4), **(found or {})}


def main() -> None:
    name, source, target = sys.argv[1:]
    tool = TOOLS[name]()
    # What a tool imports, here or on the way, is not counted; the first turn is rarely the fastest.
    tool(str(tiny(Path(target))), target)
    turns = [timed(tool, source, target) for _ in range(TURNS)]
    best = min(turns, key=lambda turn: turn["seconds"] - turn.get("proof_seconds", 0))
    sys.stdout.write("\n" + json.dumps(best) + "\n")


if __name__ == "__main__":
    main()

"""Measures one tool on one model in a process of its own, and prints a JSON value: seconds, CPU seconds, peak memory.

python benchmarks/scaling/measure.py rewrite model.onnx
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from rewriting import PAUSE_S, ProofShare, tiny

_MIB = 1 << 20


def load_save(source: Path, target: Path) -> dict[str, Any]:
    """What no tool can do without."""
    import onnx

    def run() -> dict[str, Any]:
        onnx.save(onnx.load(source), target)
        return {}

    return measured(run)


def rewrite(source: Path, target: Path) -> dict[str, Any]:
    """The whole of `compress rewrite`: read, analyse, rewrite, prove, write. The proof's share is told apart."""
    from compress.rewrite import rewrite_file

    rewrite_file(tiny(target), target)
    proof = ProofShare()

    def run() -> dict[str, Any]:
        proof.reset()
        result = rewrite_file(source, target)
        return {
            "proven": result.proven,
            "parameters_before": result.params_before,
            "parameters_after": result.params_after,
        }

    return measured(run) | {"proof_seconds": proof.seconds, "proof_cpu_seconds": proof.cpu_seconds}


def analyse(source: Path, target: Path) -> dict[str, Any]:
    """The analysis alone, of a model that is in memory."""
    from compress.onnx_io.file import read_model
    from compress.onnx_io.weights import take_apart
    from compress.recipe import RewriteSettings
    from compress.rewrite.analysis import analyse as analysis

    analysis(read_model(tiny(target)), RewriteSettings())
    parted = take_apart(read_model(source))
    return measured(lambda: {"unknown": analysis(parted.skeleton, RewriteSettings(), parted.weights).unknown})


def onnxslim(source: Path, target: Path) -> dict[str, Any]:
    """OnnxSlim, which proves nothing."""
    import onnxslim as peer

    peer.slim(str(tiny(target)), str(target))

    def run() -> dict[str, Any]:
        peer.slim(str(source), str(target))
        return {"version": peer.__version__}

    return measured(run)


def measured(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Runs a function twice; returns its result with what it took, child processes apart.

    Memory is that of the first turn; time that of the second, after a pause: what is imported only on the way is there
    by then.
    """
    resident = memory_mib("VmRSS")
    run()
    memory = {
        "peak_mib": memory_mib("VmHWM") - resident,
        "children_peak_mib": sum(memory_mib("VmHWM", child) for child in children_of_this()) + 0.0,
    }
    time.sleep(PAUSE_S)
    cpu, children, start = time.process_time(), children_cpu(), time.perf_counter()
    result = run()
    seconds, own = time.perf_counter() - start, time.process_time() - cpu
    return {
        **result,
        "seconds": seconds,
        "cpu_seconds": own,
        "children_cpu_seconds": children_cpu() - children,
        **memory,
    }


def memory_mib(field: str, process: str = "self") -> float:
    """Returns a size that the kernel keeps of a process: VmRSS, now resident, or VmHWM, its largest so far (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def children_of_this() -> list[str]:
    """Returns the ids of the child processes that run now (Linux)."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def children_cpu() -> float:
    """Returns their CPU seconds."""
    ticks = 0
    for child in children_of_this():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    tool, source = sys.argv[1], Path(sys.argv[2])
    with TemporaryDirectory() as folder:
        found = TOOLS[tool](source, Path(folder) / "out.onnx")
    sys.stdout.write(json.dumps(found | {"file_mib": source.stat().st_size / _MIB}) + "\n")


TOOLS = {"load_save": load_save, "analyse": analyse, "rewrite": rewrite, "onnxslim": onnxslim}

if __name__ == "__main__":
    main()

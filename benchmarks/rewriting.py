"""What scripts that time rewriters share: a model to warm up on, and the share of a proof in the time of a rewrite."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

# Before each turn. A tool that has just waited, as for a proof, finds the processor's caches cold, as anybody does who
# runs a tool once; none shall find them warm because it was run a moment ago.
PAUSE_S = 0.15


def tiny(beside: Path) -> Path:
    """Writes a model of one layer; returns its file.

    Each tool does it first: what it imports on the way, and the processes that it starts, are not counted.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    shape = (1, 8, 8, 8)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["h"], pads=[1] * 4), helper.make_node("Relu", ["h"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    path = beside.with_name("tiny.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class ProofShare:
    """The time that proofs take in this process from now on.

    To a proof belongs all that nobody needs who proves nothing: asking for a process to run models in, opening the
    original there, comparing, and closing both models.

    Attributes:
        seconds, cpu_seconds: since the last `reset`.
    """

    def __init__(self) -> None:
        from compress.rewrite import proof, verb

        self.reset()
        self._within = False  # a part of a proof: what that calls is counted with it
        room: Any = verb
        room.prepare_runtime = self._timed(room.prepare_runtime)
        judge: Any = proof.Judge
        for part in ("__init__", "opened", "prove", "__exit__"):
            setattr(judge, part, self._timed(getattr(judge, part)))

    def reset(self) -> None:
        """Begins anew."""
        self.seconds = self.cpu_seconds = 0.0

    def _timed(self, function: Any) -> Any:
        def run(*arguments: Any, **keywords: Any) -> Any:
            if self._within:
                return function(*arguments, **keywords)
            self._within, seconds, cpu = True, time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                self._within = False
                self.seconds += time.perf_counter() - seconds
                self.cpu_seconds += time.process_time() - cpu

        return run

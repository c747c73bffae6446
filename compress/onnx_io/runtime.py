"""ONNX Runtime in a process of its own, for models that nobody vouches for.

Some invalid models crash the runtime, some make it hang, some make it take all memory. Here each of these is a finding.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import ModelFileError
from compress.onnx_io.process import GIB, Process, RunError

# A model of ordinary size opens in well under a second; what it computes is ours to choose, and small.
TIME_LIMIT_S = 60.0
# The runtime itself maps about 1 GiB; weights are held, packed for the processor, and mapped from their file.
_LIMIT_BYTES = 4 * GIB
_LIMIT_TIMES = 6
# Shape inference reads graphs without weights.
_INFER_LIMIT_BYTES = 2 * GIB
_INFER_LIMIT_S = 20.0


class Runtime(Process):
    """A process that runs models.

    Args:
        time_limit_s: of one request, see `Process`; `TIME_LIMIT_S` by default.
    """

    def __init__(self, time_limit_s: float | None = None) -> None:
        super().__init__(TIME_LIMIT_S if time_limit_s is None else time_limit_s)
        self.owner = os.getpid()
        self._opened = 0

    def open(self, model: bytes | Path, *, optimized: bool = True, wait: bool = True) -> RemoteSession:
        """Opens a model.

        Args:
            model: a file, or the bytes of one; kept, to open it again in a process that follows one that died.
            optimized: whether the runtime may fuse operators.
            wait: until it is open; otherwise that is left to `RemoteSession.wait`, before anything else is asked.

        Raises:
            ModelFileError: with the runtime's reason, if it refuses the model or dies of it.
        """
        opened = RemoteSession(self, model, optimized)
        opened.ask()
        if wait:
            opened.wait()
        return opened

    def infer(self, model: bytes) -> None:
        """Tries ONNX's shape inference on a model, for whoever is about to call it in a process that must not die.

        Raises:
            RunError: if it crashes, hangs, runs out of memory, or refuses the model.
        """
        header = {"do": "infer", "limit_bytes": _INFER_LIMIT_BYTES}
        self.request(header, [np.frombuffer(model, np.uint8)], 0, limit_s=_INFER_LIMIT_S, who="ONNX's shape inference")

    def fresh_id(self) -> int:
        """Returns a number that no session has yet."""
        self._opened += 1
        return self._opened


class RemoteSession:
    """A model that is open in a `Runtime`; opened again by itself when the process has been replaced.

    Args:
        runtime: where it runs.
        model: a file, or the bytes of one.
        optimized: whether the runtime may fuse operators.

    Attributes:
        outputs: names of the model's outputs.
    """

    def __init__(self, runtime: Runtime, model: bytes | Path, optimized: bool = True) -> None:
        self._runtime = runtime
        self._model = model
        self._optimized = optimized
        self._bytes = len(model) if isinstance(model, bytes) else _bytes_beside(model)
        self._id = self._generation = 0
        self._asked = False  # whether it has been asked for, and nobody has waited for it
        self.outputs: list[str] = []

    def ask(self) -> None:
        """Asks for the model to be opened in the process as it is now. Raises as `Runtime.open`."""
        with self._refusals():
            self._ask()

    def wait(self) -> None:
        """Waits until the model is open, if it has been asked for. Raises as `Runtime.open`."""
        with self._refusals():
            self._wait()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except RunError as error:
            what = f"model {self._model}" if isinstance(self._model, Path) else "the model"
            verb = "cannot be run" if error.died else "is refused by ONNX Runtime"
            raise ModelFileError(f"{what} {verb}: {error}", next_step=error.next_step) from error

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[Any]:
        """Runs the model.

        Args:
            feeds: input name → array of numbers.

        Returns:
            The outputs: arrays; lists and text where the model returns such.

        Raises:
            RunError: if it does not run, or no longer opens.
        """
        self._wait()
        if self._generation != self._runtime.settle():
            self._ask()
            self._wait()
        arrays = [np.ascontiguousarray(array).reshape(np.shape(array)) for array in feeds.values()]
        header = {"do": "run", "id": self._id, "names": list(feeds)}
        answer, results = self._runtime.request(header, arrays, self._bytes)
        return [_value(value, results) for value in answer["values"]]

    def close(self) -> None:
        """Lets the model go."""
        if self._generation == self._runtime.generation:
            self._runtime.forget({"do": "close", "id": self._id})

    def _ask(self) -> None:
        self._id = self._runtime.fresh_id()
        header = {
            "do": "open",
            "id": self._id,
            "path": str(self._model) if isinstance(self._model, Path) else None,
            "optimized": self._optimized,
            "limit_bytes": _LIMIT_BYTES + _LIMIT_TIMES * self._bytes,
        }
        arrays = [np.frombuffer(self._model, np.uint8)] if isinstance(self._model, bytes) else []
        self._generation = self._runtime.ask(header, arrays, self._bytes)
        self._asked = True

    def _wait(self) -> None:
        if self._asked:
            self._asked = False
            self.outputs = self._runtime.answer(self._bytes)[0]["outputs"]


def _value(value: Any, results: list[np.ndarray]) -> Any:
    if isinstance(value, int):
        return results[value]
    return [_value(item, results) for item in value] if isinstance(value, list) else value


def _bytes_beside(model: Path) -> int:
    """Returns an upper bound of the bytes that opening a file reads: it and what lies beside it under its name."""
    return sum(file.stat().st_size for file in model.parent.glob(f"{model.name}*") if file.is_file())


_idle: list[Runtime] = []


@contextmanager
def borrowed_runtime() -> Iterator[Runtime]:
    """Gives a process to run models in. Processes are kept for the next who asks, and end with this one."""
    runtime = None
    while _idle and runtime is None:
        candidate = _idle.pop()
        # A forked process must not speak over its parent's pipes. One that has died is replaced when it is asked.
        runtime = candidate if candidate.owner == os.getpid() else None
    runtime = runtime or Runtime()
    try:
        yield runtime
    finally:
        _idle.append(runtime)


def prepare_runtime() -> None:
    """Starts a process, if none is idle, for whoever borrows it next."""
    with borrowed_runtime():
        pass


@atexit.register
def _end() -> None:
    for runtime in _idle:
        if runtime.owner == os.getpid():
            runtime.close()

"""ONNX Runtime in a process of its own, for models that nobody vouches for.

Some invalid models crash the runtime, some make it hang, some make it take all memory. Here each of these is a finding.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import MachineError, ModelFileError
from compress.onnx_io import worker
from compress.onnx_io.session import explain_refusal

# A model of ordinary size opens in well under a second; what it computes is ours to choose, and small.
TIME_LIMIT_S = 60.0
_GIB = 1 << 30
# The runtime itself maps about 1 GiB; weights are held, packed for the processor, and mapped from their file.
_LIMIT_BYTES = 4 * _GIB
_LIMIT_TIMES = 6
_SECONDS_PER_GIB = 60.0
# Shape inference reads graphs without weights.
_INFER_LIMIT_BYTES = 2 * _GIB
_INFER_LIMIT_S = 20.0


class RunError(Exception):
    """A model did not run.

    Args:
        reason: why, in one line.
        next_step: what can be done about it.
        died: whether the runtime crashed, hung, or was killed.
    """

    def __init__(self, reason: str, next_step: str = "export the model again", *, died: bool = False) -> None:
        super().__init__(reason)
        self.next_step = next_step
        self.died = died


class Runtime:
    """A process that runs models. It is started at once, and again when it has died.

    Args:
        time_limit_s: of one request, `TIME_LIMIT_S` by default, longer for models of more than 1 GiB; the process is
            killed then.
    """

    def __init__(self, time_limit_s: float | None = None) -> None:
        self.time_limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
        self.owner = os.getpid()
        self.generation = 0
        self._opened = 0
        self._owed = 0  # answers that nobody has waited for yet
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.generation += 1
        # -P: this folder holds modules whose names others use. The path: what this process can import, that one can.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        # Idle threads and their arenas would use up the address space that it is limited to.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        try:
            return subprocess.Popen(
                [sys.executable, "-P", worker.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise MachineError(
                f"cannot start {sys.executable} ({error.strerror})", next_step="free memory, or check the installation"
            ) from error

    def open(self, model: bytes | Path, *, optimized: bool = True) -> RemoteSession:
        """Opens a model.

        Args:
            model: a file, or the bytes of one; kept, to open it again in a process that follows one that died.
            optimized: whether the runtime may fuse operators.

        Raises:
            ModelFileError: with the runtime's reason, if it refuses the model or dies of it.
        """
        opened = RemoteSession(self, model, optimized)
        opened.reopen()
        return opened

    def infer(self, model: bytes) -> None:
        """Tries ONNX's shape inference on a model, for whoever is about to call it in a process that must not die.

        Raises:
            RunError: if it crashes, hangs, runs out of memory, or refuses the model.
        """
        header = {"do": "infer", "limit_bytes": _INFER_LIMIT_BYTES}
        self.request(header, [np.frombuffer(model, np.uint8)], 0, limit_s=_INFER_LIMIT_S, who="ONNX's shape inference")

    def close(self) -> None:
        """Ends the process."""
        process = self._process
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                # What is still in its buffer has no reader.
                with suppress(OSError):
                    stream.close()
        process.wait()

    def request(
        self,
        header: dict[str, Any],
        arrays: list[np.ndarray],
        model_bytes: int,
        *,
        limit_s: float | None = None,
        who: str = "ONNX Runtime",
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Sends one request and waits for its answer.

        Raises:
            RunError: if the process dies, takes too long, or answers with an error.
        """
        self.settle()
        process = self._process
        limit_s = (limit_s or self.time_limit_s) + _SECONDS_PER_GIB * (model_bytes // _GIB)
        with self._killed_after(limit_s) as late:
            self._send(header, arrays)
            answer = self._receive()
        if answer is None:
            process.kill() if late.is_set() else process.wait()
            self.close()
            if late.is_set():
                raise RunError(f"{who} gives no answer within {limit_s:g} s", died=True)
            raise RunError(f"{who} crashed ({_ending(process.returncode)})", died=True)
        if "error" in answer[0]:
            raise RunError(*explain_refusal(answer[0]["error"], answer[0]["runtime"]))
        return answer

    def forget(self, session_id: int) -> None:
        """Closes a model, which takes the longer the larger it is; it is the next request that waits for it."""
        # A process that has died has let it go already.
        if self._process.poll() is None:
            self._send({"do": "close", "id": session_id}, [])
            self._owed += 1

    def settle(self) -> int:
        """Sees to it that a process runs, and that it owes no answer; returns its generation."""
        owed, self._owed = self._owed, 0
        if owed:
            with self._killed_after(self.time_limit_s):
                answered = all(self._receive() is not None for _ in range(owed))
            if not answered:
                self._process.kill()
                self._process.wait()
        if self._process.poll() is not None:
            self.close()
            self._process = self._start()
        return self.generation

    @contextmanager
    def _killed_after(self, limit_s: float) -> Iterator[threading.Event]:
        """Kills the process if the block takes longer, and sets the event that it is given."""
        process, late = self._process, threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, stop)
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def _send(self, header: dict[str, Any], arrays: list[np.ndarray]) -> None:
        """Sends a request; a process that has died takes none, and gives no answer."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ConnectionError):
            worker.send(self._process.stdin, {**header, "arrays": worker.described(arrays)}, arrays)

    def _receive(self) -> tuple[dict[str, Any], list[np.ndarray]] | None:
        """Returns an answer; None if the process has died."""
        assert self._process.stdout is not None
        try:
            return worker.receive(self._process.stdout)
        except (EOFError, ConnectionError):
            return None

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
        self.outputs: list[str] = []

    def reopen(self) -> None:
        """Opens the model in the process as it is now. Raises as `Runtime.open`."""
        try:
            self._open()
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
        if self._generation != self._runtime.settle():
            self._open()
        arrays = [np.ascontiguousarray(array).reshape(np.shape(array)) for array in feeds.values()]
        header = {"do": "run", "id": self._id, "names": list(feeds)}
        answer, results = self._runtime.request(header, arrays, self._bytes)
        return [_value(value, results) for value in answer["values"]]

    def close(self) -> None:
        """Lets the model go."""
        if self._generation == self._runtime.generation:
            self._runtime.forget(self._id)

    def _open(self) -> None:
        self._id = self._runtime.fresh_id()
        header = {
            "do": "open",
            "id": self._id,
            "path": str(self._model) if isinstance(self._model, Path) else None,
            "optimized": self._optimized,
            "limit_bytes": _LIMIT_BYTES + _LIMIT_TIMES * self._bytes,
        }
        arrays = [np.frombuffer(self._model, np.uint8)] if isinstance(self._model, bytes) else []
        self.outputs = self._runtime.request(header, arrays, self._bytes)[0]["outputs"]
        self._generation = self._runtime.generation


def _value(value: Any, results: list[np.ndarray]) -> Any:
    if isinstance(value, int):
        return results[value]
    return [_value(item, results) for item in value] if isinstance(value, list) else value


def _bytes_beside(model: Path) -> int:
    """Returns an upper bound of the bytes that opening a file reads: it and what lies beside it under its name."""
    return sum(file.stat().st_size for file in model.parent.glob(f"{model.name}*") if file.is_file())


def _ending(code: int) -> str:
    """Returns how a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


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

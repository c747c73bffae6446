"""A process that answers requests one by one, each within a limit of time. It may crash and hang: that is a finding."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from compress.errors import MachineError
from compress.onnx_io import worker
from compress.onnx_io.session import explain_refusal

GIB = 1 << 30
_SECONDS_PER_GIB = 60.0


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


class Process:
    """A process that runs `compress.onnx_io.worker`. It is started at once, and again when it has died.

    Args:
        time_limit_s: of one request, longer for models of more than 1 GiB; the process is killed then.

    Attributes:
        generation: how many times it has been started.
    """

    def __init__(self, time_limit_s: float) -> None:
        self.time_limit_s = time_limit_s
        self.generation = 0
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
        limit_s = self._limit(model_bytes, limit_s)
        with self._killed_after(limit_s) as late:
            self._send(header, arrays)
            answer = self._receive()
        return self._found(answer, late, limit_s, who)

    def ask(self, header: dict[str, Any], arrays: list[np.ndarray], model_bytes: int) -> int:
        """Sends one request; `answer` waits for its answer, and nobody has to. Returns the generation of the process.

        Raises:
            RunError: if the process does not take the request in time.
        """
        generation = self.settle()
        limit_s = self._limit(model_bytes)
        with self._killed_after(limit_s) as late:
            self._send(header, arrays)
        if late.is_set():
            self._found(None, late, limit_s)
        self._owed += 1
        return generation

    def answer(self, model_bytes: int) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Waits for the answer to what has been asked last, and nothing since. Raises as `request`."""
        limit_s = self._limit(model_bytes)
        self._owed -= 1
        with self._killed_after(limit_s) as late:
            answer = self._receive()
        return self._found(answer, late, limit_s)

    def _limit(self, model_bytes: int, limit_s: float | None = None) -> float:
        """Returns how long a request may take."""
        return (limit_s or self.time_limit_s) + _SECONDS_PER_GIB * (model_bytes // GIB)

    def _found(
        self,
        answer: tuple[dict[str, Any], list[np.ndarray]] | None,
        late: threading.Event,
        limit_s: float,
        who: str = "ONNX Runtime",
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Returns an answer that is none of an error; raises as `request` otherwise."""
        process = self._process
        if answer is None:
            process.kill() if late.is_set() else process.wait()
            self.close()
            if late.is_set():
                raise RunError(f"{who} gives no answer within {limit_s:g} s", died=True)
            raise RunError(f"{who} crashed ({_ending(process.returncode)})", died=True)
        if "error" in answer[0]:
            raise RunError(*explain_refusal(answer[0]["error"], answer[0]["runtime"]))
        return answer

    def forget(self, header: dict[str, Any]) -> None:
        """Sends a request whose answer nobody wants; it is the next request that waits for it."""
        # A process that has died has nothing to do any more.
        if self._process.poll() is None:
            self._send(header, [])
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


def _ending(code: int) -> str:
    """Returns how a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code}, {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"

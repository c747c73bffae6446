"""Runs models that nobody vouches for: a process of its own, which may crash, hang or run out of memory alone.

Started as a script by `compress.onnx_io.runtime`; it needs numpy and ONNX Runtime, and ONNX where shapes are asked for.
Requests come on standard input and answers go to standard output: eight bytes with the length of a JSON value, that
value, and the bytes of the arrays that it describes. Nothing is unpickled on either side.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from typing import IO, Any

import numpy as np

_LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], header: dict[str, Any], arrays: list[np.ndarray[Any, Any]]) -> None:
    """Writes one message.

    Args:
        stream: where to.
        header: a JSON value.
        arrays: of numbers; the header tells their element types and shapes.
    """
    text = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray[Any, Any]]] | None:
    """Reads one message; None at the end of the stream.

    Raises:
        EOFError: if the stream ends within a message.
    """
    start = stream.read(_LENGTH.size)
    if not start:
        return None
    header = json.loads(_exactly(stream, _LENGTH.unpack(start)[0]))
    arrays = []
    for kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        data = bytearray(dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
        view, filled = memoryview(data), 0
        while filled < len(data):
            count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            filled += count
        arrays.append(np.frombuffer(data, dtype).reshape(shape))
    return header, arrays


def described(arrays: list[np.ndarray[Any, Any]]) -> list[tuple[str, tuple[int, ...]]]:
    """Returns what a header says of its arrays."""
    return [(array.dtype.str, array.shape) for array in arrays]


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _limit(limit_bytes: int) -> None:
    """Limits the address space, where the platform can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _open(header: dict[str, Any], arrays: list[np.ndarray[Any, Any]]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what the runtime has to say comes as an exception
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if header["optimized"] else levels.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = arrays[0].tobytes() if arrays else header["path"]
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _leaves(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    """Moves the numbers of an output into `arrays`; what stays is JSON: text, lists, and the places of the arrays."""
    if isinstance(value, dict):
        return [_leaves(pair, arrays) for pair in sorted(value.items())]
    if isinstance(value, list | tuple):
        return [_leaves(item, arrays) for item in value]
    if value is None or isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        return [array.shape, [str(item) for item in array.reshape(-1)]]
    arrays.append(np.ascontiguousarray(array).reshape(array.shape))
    return len(arrays) - 1


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    sessions: dict[int, Any] = {}
    while (request := receive(requests)) is not None:
        header, arrays = request
        answer: dict[str, Any] = {}
        results: list[np.ndarray[Any, Any]] = []
        try:
            if header["do"] == "open":
                _limit(header["limit_bytes"])
                sessions[header["id"]] = _open(header, arrays)
                answer["outputs"] = [output.name for output in sessions[header["id"]].get_outputs()]
            elif header["do"] == "infer":
                _limit(header["limit_bytes"])
                import onnx

                onnx.shape_inference.infer_shapes(arrays[0].tobytes(), data_prop=True)
            elif header["do"] == "close":
                sessions.pop(header["id"], None)
            else:
                feeds = dict(zip(header["names"], arrays, strict=True))
                answer["values"] = _leaves(sessions[header["id"]].run(None, feeds), results)
        except Exception as error:  # noqa: BLE001 - the runtime's errors have no base class; the text is passed on
            import onnxruntime

            text = "out of memory" if isinstance(error, MemoryError) else str(error)
            answer, results = {"error": text, "runtime": f"onnxruntime {onnxruntime.__version__}"}, []
        send(answers, {**answer, "arrays": described(results)}, results)


if __name__ == "__main__":
    # Native libraries print as they please; the answers must stay clean.
    answering = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import onnxruntime  # noqa: F401 - while the caller is still at something else

    with contextlib.suppress(BrokenPipeError, EOFError, KeyboardInterrupt):
        _serve(sys.stdin.buffer, answering)

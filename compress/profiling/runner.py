"""Measures ONNX models; needs NumPy and ONNX Runtime and nothing else, so that it can be pushed to a board.

Reads one JSON request from its argument or from standard input, writes one line of JSON. Sessions of all models are
alive at once and take turns, a block of runs each; a block's least time leaves out what else the machine did, and two
models' blocks of one round saw the same machine. The rounds are spread over fresh processes: where things come to lie
in memory makes one model faster than another for as long as a process lives. Load time and memory come from fresh
processes too, operator times from a pass of their own: taking them slows the runs.
"""

from __future__ import annotations

import base64
import bisect
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# What it measures is nobody else's business, and it leaves no files behind; the runtime asks when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

DEFAULT_AXIS = 64
# Their own time is the time of the nodes inside them, which have rows of their own.
CONTAINERS = ("If", "Loop", "Scan")
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


class ModelFailureError(Exception):
    """One model that cannot be measured: which, at which stage (load, inputs, run), and the reason."""

    def __init__(self, model: str, stage: str, reason: object) -> None:
        super().__init__(reason)
        self.record = {"model": model, "stage": stage, "reason": str(reason)}


def open_session(
    model: str, threads: int, profile_prefix: str | None = None, entries: dict[str, str] | None = None
) -> Any:
    """Opens a model as the product does everywhere: CPU, all optimizations, no spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    if profile_prefix:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFailureError(model, "load", error) from error


def make_feed(model: str, session: Any, batch_size: int, seed: int) -> dict[str, Any]:
    """Returns random inputs: floats from N(0, 1), bytes and truth values uniform, other integers 0."""
    inputs = session.get_inputs()
    batch = {value.shape[0] for value in inputs if value.shape and isinstance(value.shape[0], str)}
    generator = np.random.default_rng(seed)
    batched = batch_size == 1
    feed = {}
    for value in inputs:
        if value.type not in TYPES:
            raise ModelFailureError(model, "inputs", f"input {value.name!r} is a {value.type}")
        shape = []
        for position, size in enumerate(value.shape):
            fixed = isinstance(size, int) and size > 0
            is_batch = not fixed and (position == 0 or size in batch)
            batched = batched or is_batch
            shape.append(size if fixed else batch_size if is_batch else DEFAULT_AXIS)
        feed[value.name] = draw(generator, shape, TYPES[value.type])
    if not batched:
        raise ModelFailureError(model, "inputs", f"its batch axis is fixed, a batch of {batch_size} does not fit")
    return feed


def draw(generator: np.random.Generator, shape: list[int], kind: Any) -> Any:
    """Returns one random array."""
    if kind in (np.int8, np.uint8):
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max + 1, shape, kind)
    if kind is np.bool_:
        return generator.integers(0, 2, shape).astype(kind)
    if np.issubdtype(kind, np.integer):
        return np.zeros(shape, kind)
    return generator.standard_normal(shape).astype(kind)


def run_block(model: str, session: Any, feed: dict[str, Any], runs: int) -> list[float]:
    """Returns the time of each run in microseconds."""
    times = []
    try:
        for _ in range(runs):
            start = time.perf_counter_ns()
            session.run(None, feed)
            times.append((time.perf_counter_ns() - start) / 1000)
    except Exception as error:
        raise ModelFailureError(model, "run", error) from error
    return times


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Answers a request; see `compress.profiling.python_runner.runner_request` for its keys."""
    # Who comes first has it a little better or worse: every other process takes the models the other way round.
    pieces = []
    for process, blocks in enumerate(request["blocks"]):
        way = -1 if process % 2 else 1
        # What comes out is asked of the first alone.
        most_numbers = None if process else request["most_numbers"]
        changes = {"blocks": blocks, "models": request["models"][::way], "most_numbers": most_numbers}
        found, _ = fresh_process(request, "blocks", **changes)
        pieces.append({key: values[::way] for key, values in found.items()})
    answers = []
    for position, model in enumerate(request["models"]):
        answer: dict[str, Any] = {key: pieces[0][key][position] for key in ("input_shapes", "magnitudes", "outputs")}
        answer["blocks_us"] = [block for piece in pieces for block in piece["blocks_us"][position]]
        answer["operators"] = operator_rows(model, request)
        answer.update(load_figures(model, request))
        answer["arena_bytes"] = arena_bytes(model, request) if request["loads"] else None
        answers.append(answer)
    return {
        "models": answers,
        "processes": len(pieces),
        "warmup": max(1, request["warmup"]),
        **facts(request),
    }


def time_blocks(request: dict[str, Any]) -> dict[str, Any]:
    """Times blocks of all models in turn: [models][blocks][runs] microseconds. Meant for a fresh process."""
    models = request["models"]
    sessions = [open_session(model, request["threads"]) for model in models]
    feeds = [make_feed(m, s, request["batch_size"], request["seed"]) for m, s in zip(models, sessions, strict=True)]
    # Even without warm-up one run is needed: a model that cannot run must say so before anything is timed.
    for model, session, feed in zip(models, sessions, feeds, strict=True):
        run_block(model, session, feed, max(1, request["warmup"]))
    times: list[list[list[float]]] = [[] for _ in models]
    for _ in range(request["blocks"]):
        for position, (model, session, feed) in enumerate(zip(models, sessions, feeds, strict=True)):
            times[position].append([round(value, 3) for value in run_block(model, session, feed, request["runs"])])
    return {
        "blocks_us": times,
        "input_shapes": [{name: list(array.shape) for name, array in feed.items()} for feed in feeds],
        "magnitudes": [magnitudes(feed) for feed in feeds],
        "outputs": [
            sendable(session, feed, request["most_numbers"]) for session, feed in zip(sessions, feeds, strict=True)
        ],
    }


def magnitudes(feed: dict[str, Any]) -> dict[str, float]:
    """Returns input → sum of magnitudes: another NumPy may draw other inputs from the same seed, and they show it."""
    return {name: float(np.abs(array.astype(np.float64)).sum()) for name, array in feed.items()}


def sendable(session: Any, feed: dict[str, Any], most_numbers: int | None) -> list[dict[str, Any]] | None:
    """Returns what comes out, as text; None if it is not asked for or too much."""
    if most_numbers is None:
        return None
    found = numbers(session, session.run(None, feed))
    if sum(array.size for array in found.values()) > most_numbers:
        return None
    return [
        {
            "name": name,
            "type": array.dtype.str,
            "shape": array.shape,
            "base64": base64.b64encode(array.tobytes()).decode(),
        }
        for name, array in found.items()
    ]


def operator_rows(model: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a row an operator, the slowest first: node, operator, microseconds a run, share of them all."""
    runs = request["operator_runs"]
    if runs == 0:
        return []
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(model, request["threads"], folder + "/operators")
        feed = make_feed(model, session, request["batch_size"], request["seed"])
        run_block(model, session, feed, runs + 1)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return rows_of(events, runs)


def rows_of(events: list[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """Turns the runtime's events into rows; the first of ``runs + 1`` runs warms up and is left out.

    A row's time is the mean of the middle half of the runs: one interruption of the machine is not the operator's, and
    the runtime's whole microseconds still average.
    """
    starts = sorted(event["ts"] for event in events if event.get("name") == "model_run")
    totals: dict[tuple[str, str], list[int]] = {}
    for event in events:
        operator = event.get("args", {}).get("op_name")
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time") or operator in CONTAINERS:
            continue
        run = bisect.bisect_right(starts, event["ts"]) - 2
        if not 0 <= run < runs:
            continue
        key = (event["name"][: -len("_kernel_time")], operator)
        totals.setdefault(key, [0] * runs)[run] += event["dur"]
    times = {key: middle_mean(durations) for key, durations in totals.items()}
    whole = sum(times.values()) or 1
    rows = [
        {"node": node, "operator": operator, "us": round(us, 3), "share": round(us / whole, 6)}
        for (node, operator), us in times.items()
    ]
    return sorted(rows, key=lambda row: (-row["us"], row["node"]))


def middle_mean(values: list[int]) -> float:
    """Returns the mean of the values without the lowest and the highest quarter."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    return sum(middle) / len(middle)


def load_figures(model: str, request: dict[str, Any]) -> dict[str, Any]:
    """Returns medians over fresh processes: milliseconds to open the model, bytes of memory before and at the peak."""
    loads = [fresh_process(request, "load", models=[model])[0] for _ in range(request["loads"])]
    keys = ("load_ms", "runtime_rss_bytes", "peak_rss_bytes")
    return {key: sorted(load[key] for load in loads)[len(loads) // 2] if loads else None for key in keys}


def fresh_process(request: dict[str, Any], action: str, **changes: Any) -> tuple[dict[str, Any], str]:
    """Returns the answer of one fresh process to a changed request, and what it wrote on standard error."""
    safe_path = ["-P"] if getattr(sys.flags, "safe_path", False) else []
    inner = json.dumps(dict(request, action=action, **changes))
    command = [sys.executable, *safe_path, __file__]
    result = subprocess.run(command, input=inner, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        last = "".join(result.stderr.splitlines()[-1:])
        raise SystemExit(f"a fresh process ({action}) ended with {result.returncode} {last}")
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    if "error" in answer:
        raise ModelFailureError(answer["error"]["model"], answer["error"]["stage"], answer["error"]["reason"])
    return answer, result.stderr


def arena_bytes(model: str, request: dict[str, Any]) -> int | None:
    """Returns what the runtime's allocator took for activations in one inference; None if it does not say.

    The allocator tells of each extension in its log, and of nothing in any other way.
    """
    log = fresh_process(request, "arena", models=[model])[1]
    grown = re.findall(r"Extended allocation by (\d+) bytes", log)
    return sum(map(int, grown)) if grown else None


def watch_arena(request: dict[str, Any]) -> dict[str, Any]:
    """Runs one model once with an allocator that takes no more than it is asked for, weights aside, and logs it."""
    (model,) = request["models"]
    onnxruntime.set_default_logger_severity(1)
    kinds = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    exact = onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1, "initial_chunk_size_bytes": 256, "max_mem": 0})
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", *kinds), exact)
    entries = {"session.use_env_allocators": "1", "session.use_device_allocator_for_initializers": "1"}
    session = open_session(model, request["threads"], entries=entries)
    run_block(model, session, make_feed(model, session, request["batch_size"], request["seed"]), 1)
    return {}


def reference(request: dict[str, Any]) -> dict[str, Any]:
    """Writes what each model is fed and what comes out, for a device that is to be compared → .npz files.

    An archive holds names, ``feed0`` … and ``output0`` …; an output that is no array of numbers is left out.
    """
    for model, target in zip(request["models"], request["targets"], strict=True):
        session = open_session(model, request["threads"])
        feed = make_feed(model, session, request["batch_size"], request["seed"])
        try:
            outputs = session.run(None, feed)
        except Exception as error:
            raise ModelFailureError(model, "run", error) from error
        found = numbers(session, outputs)
        arrays = {f"feed{i}": array for i, array in enumerate(feed.values())}
        arrays.update({f"output{i}": array for i, array in enumerate(found.values())})
        np.savez(target, feed_names=list(feed), output_names=np.array(list(found), str), **arrays)
    return {}


def numbers(session: Any, outputs: list[Any]) -> dict[str, Any]:
    """Returns output → array, of those that are arrays of numbers."""
    named = zip((output.name for output in session.get_outputs()), outputs, strict=True)
    return {name: v for name, v in named if isinstance(v, np.ndarray) and v.dtype.kind in "biuf"}


def load(request: dict[str, Any]) -> dict[str, Any]:
    """Opens one model, runs it once; what it took. Meant for a process that has done nothing else."""
    (model,) = request["models"]
    before = memory_bytes("VmRSS")
    start = time.perf_counter_ns()
    session = open_session(model, request["threads"])
    load_ms = (time.perf_counter_ns() - start) / 1e6
    run_block(model, session, make_feed(model, session, request["batch_size"], request["seed"]), 1)
    return {"load_ms": round(load_ms, 3), "runtime_rss_bytes": before, "peak_rss_bytes": memory_bytes("VmHWM")}


def memory_bytes(key: str) -> int:
    """Returns a line of /proc/self/status; getrusage would report the parent's peak if that was higher."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    found = re.search(key + r":\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def facts(_: dict[str, Any]) -> dict[str, Any]:
    """Returns what there is to know without a model."""
    return {"machine": machine_facts(), "runtime": "onnxruntime " + onnxruntime.__version__}


def machine_facts() -> dict[str, Any]:
    """Returns what a reader needs to know of the machine."""
    facts: dict[str, Any] = {
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    facts["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    facts["processor"] = found[1].strip() if found else platform.processor()
    facts["load_average"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return facts


ACTIONS = {
    "measure": measure,
    "blocks": time_blocks,
    "load": load,
    "arena": watch_arena,
    "reference": reference,
    "facts": facts,
}


def main() -> None:
    """Answers one request."""
    # Whoever ends this process ends the ones that it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    request = json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read())
    try:
        answer = ACTIONS[request.get("action", "measure")](request)
    except ModelFailureError as failure:
        answer = {"error": dict(failure.record, position=request["models"].index(failure.record["model"]))}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()

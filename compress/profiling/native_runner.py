"""The runner that needs no Python, `native/runner.c`: what it is told, and what it answers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from compress.profiling.device import Measurement, OperatorRow
from compress.profiling.parity import Arrays, parity
from compress.profiling.python_runner import read_answer, spread, unreadable
from compress.profiling.runner import rows_of
from compress.profiling.tensors import unpack
from compress.recipe import ProfileSettings

Thing = TypeVar("Thing")


def script(runner: Sequence[str], models: Sequence[str], settings: ProfileSettings, sent: Sequence[bool]) -> str:
    """Returns what a shell is to do: measure, then once more with the runtime's own profile of each operator.

    Args:
        runner: words that start it.
        models: paths; what each is fed stands beside it as ``feed.bin``.
        settings: how to measure.
        sent: whether a model's outputs are sent back.

    Returns:
        commands whose output is a line of JSON a process; then, if the settings want details, an array of events a
        model; then, of each whose outputs are sent, the bytes of their file in hexadecimal and `end`.
    """
    outputs = [f"{Path(model).parent}/outputs.bin" if one else "-" for model, one in zip(models, sent, strict=True)]
    places = zip(models, outputs, strict=True)
    triples = [[model, f"{Path(model).parent}/feed.bin", output] for model, output in places]

    def command(number: int, numbers: Sequence[object]) -> str:
        words = [word for triple in _in_turn(triples, number) for word in triple]
        return shlex.join([*runner, *map(str, numbers), *words])

    firsts = [
        command(number, [settings.threads, settings.warmup, blocks, settings.runs, "-"])
        for number, blocks in enumerate(spread(settings))
    ]
    last = command(0, [settings.threads, 1, 1, settings.runs, "events"])
    # Each model by itself: the order of names is that of the models up to nine.
    events = [f"{last} >/dev/null", *(f"cat events{position}-*" for position in range(len(models)))]
    shown = [f"od -An -v -tx1 {output} && echo end" for output in outputs if output != "-"]
    return " && ".join([*firsts, *(events if settings.details else []), *shown])


def _in_turn(things: list[Thing], process: int) -> list[Thing]:
    """Returns what stands for models in the order in which a process takes them; see `runner.measure`."""
    return things[::-1] if process % 2 else things


def measurements(
    output: str,
    models: list[Path],
    given: Sequence[tuple[Arrays, Arrays]],
    sent: Sequence[bool],
    settings: ProfileSettings,
    machine: dict[str, Any],
    device: str,
) -> list[Measurement]:
    """Reads what the commands of `script` wrote.

    Args:
        output: all of it.
        models: the files, in order.
        given: input → array and expected output → array, of each.
        sent: as of `script`.
        settings: how it was measured.
        machine: what is known of it.
        device: names it in messages.

    Raises:
        ModelFileError: if the runtime could not open, feed or run a model.
        MachineError: if the output is not an answer.
    """
    try:
        processes = len(spread(settings))
        *lines, rest = output.split("\n", processes)
        answers = [read_answer(line, _in_turn(models, number)) for number, line in enumerate(lines)]
        runs = [_in_turn(answer["models"], number) for number, answer in enumerate(answers)]
        events: list[list[dict[str, Any]]] = [[] for _ in models]
        for position in range(len(models) if settings.details else 0):
            events[position], end = json.JSONDecoder().raw_decode(rest := rest.lstrip())
            rest = rest[end:]
        found = []
        for position, (feed, expected) in enumerate(given):
            outputs = None
            if sent[position]:
                content, _, rest = rest.partition("end")
                outputs = unpack(bytes.fromhex(content))
            differ, unequal = parity(outputs, expected)
            entries = [run[position] for run in runs]
            entry = entries[0]
            found.append(
                Measurement(
                    unit="us",
                    kind="measured",
                    blocks=tuple(tuple(float(time) for time in block) for one in entries for block in one["blocks"]),
                    processes=processes,
                    warmup=settings.warmup,
                    operators=tuple(
                        OperatorRow(row["node"], row["operator"], float(row["us"]), float(row["share"]))
                        for row in rows_of(events[position], settings.runs)
                    ),
                    load_ms=float(entry["load"]) / 1000,
                    # All models share one process: what one of several took cannot be told.
                    runtime_rss_bytes=entry["before_kb"] * 1024 if len(models) == 1 else None,
                    peak_rss_bytes=entry["peak_kb"] * 1024 if len(models) == 1 else None,
                    arena_bytes=None,
                    input_shapes={name: list(array.shape) for name, array in feed.items()},
                    machine=machine,
                    runtime=str(answers[0]["runtime"]),
                    parity=differ,
                    notes=(unequal,) if unequal else (),
                )
            )
    except (LookupError, TypeError, ValueError) as error:
        raise unreadable(device, error) from error
    return found

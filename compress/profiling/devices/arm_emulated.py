"""An ARM core that is not there: onnxruntime for aarch64 under QEMU, counted in instructions."""

from __future__ import annotations

import json
import platform
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from compress.errors import CompressError, MachineError
from compress.profiling.device import Device, Measurement, OperatorRow, devices
from compress.profiling.emulation import cores, packages
from compress.profiling.emulation.place import Place, find
from compress.profiling.emulation.qemu import Counted, count
from compress.profiling.emulation.setup import ensure
from compress.profiling.parity import parity
from compress.profiling.reference import references
from compress.profiling.runner import rows_of
from compress.recipe import ProfileSettings

# The first runs allocate more than the later ones; where a buffer comes to lie moves a small model's count by 0.1 %.
# From the seventh on they were all alike.
_WARMUP = 6
_RUNS = 3
_PROFILED = 2
_NOTE = "instructions were counted under emulation: caches and issue rates are not in them, so they are no time"


@devices.register("arm-emu")
class ArmEmulated(Device):
    """An emulated ARM core, cortex-a53, -a72 or -a76: instructions are counted.

    Counts repeat from run to run, whatever else the machine does. They are never turned into time.

    Args:
        arguments: as of `Device`; the address is the core, cortex-a53 if empty, and options must be empty.

    Raises:
        CompressError: if there is no such core.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.core = cores.core(self.address)

    def name(self) -> str:
        """See `Device.name`."""
        return self.core.name

    def missing(self) -> str | None:
        """See `Device.missing`."""
        return None if find() else "not set up; next: compress devices setup arm-emu, or just use it"

    def set_up(self) -> None:
        """See `Device.set_up`."""
        ensure(self.tell)

    def facts(self) -> dict[str, Any]:
        """See `Device.facts`."""
        place = find()
        about: dict[str, Any] = {"architecture": "aarch64", "processor": f"{self.core.name}, emulated"}
        if place is None:
            try:
                system = packages.distribution()
            except MachineError as error:
                return about | {"state": str(error)}
            return about | {"state": self.missing(), "distribution": f"{system.name} {system.codename}"}
        damaged = place.damaged()
        return about | {
            "qemu": place.facts["qemu"],
            "runtime": f"onnxruntime {place.facts['onnxruntime']}",
            "folder": str(place.folder),
            "state": f"damaged: {damaged}; next: compress devices setup arm-emu" if damaged else "ready",
        }

    def measure(self, models: list[Path], settings: ProfileSettings) -> list[Measurement]:
        """See `Device.measure`; warm-up, blocks and runs do not matter to a count."""
        if settings.threads != 1:
            raise CompressError(
                "the emulated ARM counts one thread", got=settings.threads, next_step="leave --threads at 1"
            )
        place = find() or ensure(self.tell)
        given = references(models, settings)
        feeds = [feed for feed, _ in given]
        with ThreadPoolExecutor(2) as pool:
            # The first run warms up, and its events are left out.
            profiled = partial(count, place, self.core, models, feeds, warmup=1, runs=_PROFILED, operators=True)
            parts = pool.submit(profiled) if settings.details else None
            # A process each: no count depends on which other models were asked for.
            wholes = [
                pool.submit(count, place, self.core, [model], [feed], warmup=_WARMUP, runs=_RUNS, operators=False)
                for model, feed in zip(models, feeds, strict=True)
            ]
            events = [part.events for part in parts.result()] if parts else [""] * len(models)
            counted = [(whole.result()[0], part) for whole, part in zip(wholes, events, strict=True)]
        return [self._measurement(place, *pair, *reference) for pair, reference in zip(counted, given, strict=True)]

    def _measurement(
        self, place: Place, whole: Counted, events: str, feed: dict[str, np.ndarray], expected: dict[str, np.ndarray]
    ) -> Measurement:
        differ, unequal = parity(whole.outputs, expected)
        instructions = median(whole.instructions)
        rows = _rows(json.loads(events), instructions) if events else ()
        return Measurement(
            unit="instructions",
            kind="counted",
            blocks=((instructions,),),
            processes=1,
            warmup=_WARMUP,
            operators=rows,
            load_ms=None,
            runtime_rss_bytes=None,
            peak_rss_bytes=None,
            arena_bytes=None,
            input_shapes={name: list(array.shape) for name, array in feed.items()},
            machine={
                "architecture": "aarch64",
                "processor": f"{self.core.name}, emulated by QEMU {place.facts['qemu']} on {platform.machine()}",
                "system": "Linux",
                "cores": 1,
            },
            runtime=whole.runtime,
            parity=differ,
            notes=(_NOTE, *([unequal] if unequal else [])),
        )


def _rows(events: list[dict[str, Any]], whole: float) -> tuple[OperatorRow, ...]:
    """Returns a row an operator; together they cost what an inference costs that nobody profiles.

    Writing an event down costs tens of thousands of instructions, much the same for each operator, and the runtime
    counts them as the operator's: a common amount is taken off all, so that the sum is right.

    Args:
        events: the runtime's.
        whole: instructions of an inference.
    """
    runs = sum(event.get("name") == "model_run" for event in events) - 1
    rows = rows_of(events, runs)
    costs = [float(row["us"]) for row in rows]
    left = len(costs)
    surplus = 0.0
    # The costliest stand first; those that the surplus would make negative cost nothing.
    while left and costs[left - 1] <= (surplus := (sum(costs[:left]) - whole) / left):
        left -= 1
    own = [cost - surplus for cost in costs[:left]] + [0.0] * (len(costs) - left) if surplus > 0 else costs
    total = sum(own) or 1.0
    return tuple(
        OperatorRow(row["node"], row["operator"], round(cost, 1), round(cost / total, 6))
        for row, cost in zip(rows, own, strict=True)
    )

"""What a device is: somewhere that models are measured, reached in a way of its own.

A device says how the models get there and the figures back; what is asked and what comes back is the same for all of
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from compress.errors import CompressError
from compress.recipe import ProfileSettings
from compress.registry import Registry

# Of all figures of one measurement; the sign stands in tables.
Unit = Literal["us", "instructions"]
SIGNS: dict[Unit, str] = {"us": "µs", "instructions": "instructions"}
# Whether figures were timed, counted, or only computed.
Kind = Literal["measured", "counted", "estimated"]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class OperatorRow:
    """One operator of a model as the runtime executed it.

    Attributes:
        node: its name after the runtime's own fusions.
        operator: its type.
        cost: of an inference, in the unit of the measurement.
        share: of the cost of all operators, 0…1.
    """

    node: str
    operator: str
    cost: float
    share: float


@dataclass(frozen=True)
class Measurement:
    """What a device measured of one model.

    Attributes:
        unit: of `blocks` and of the operators' costs.
        kind: timed, counted or computed.
        blocks: [blocks][runs] cost of an inference; blocks of all models taken in turn.
        processes: that the blocks are spread over, as evenly as may be, the first blocks in the first process.
        warmup: runs before a process's first block.
        operators: the costliest first.
        load_ms: milliseconds to open the model in a fresh process; None where none could be started.
        runtime_rss_bytes: memory of that process before it opened the model.
        peak_rss_bytes: the most memory it ever held, one inference included.
        arena_bytes: what the runtime's allocator took for activations in one inference; None where it does not say.
        input_shapes: input → the shape that it was fed.
        machine: architecture, processor, cores, load average …, as the device itself says.
        runtime: name and version.
        parity: largest absolute difference of the outputs to this machine's; None where nothing was compared.
        notes: what a reader of the figures must know besides.
    """

    unit: Unit
    kind: Kind
    blocks: tuple[tuple[float, ...], ...]
    processes: int
    warmup: int
    operators: tuple[OperatorRow, ...]
    load_ms: float | None
    runtime_rss_bytes: int | None
    peak_rss_bytes: int | None
    arena_bytes: int | None
    input_shapes: dict[str, list[int]]
    machine: dict[str, Any]
    runtime: str
    parity: float | None = None
    notes: tuple[str, ...] = field(default=())


def _silence(_: str) -> None:
    pass


class Device(ABC):
    """Somewhere that models are measured. The first line of a kind's docstring is what users read of it.

    Args:
        address: what stands after the colon of the device's name, e.g. ``pi@board:22`` of ``ssh://pi@board:22``.
        options: what `devices.toml` says of it besides; only what `OPTIONS` names.
        tell: who is told what is done and why, in whole lines.
        label: what the user calls it, for messages; empty if only kind and address name it.

    Raises:
        CompressError: if an option is not one of the kind's.
    """

    # Options that the kind knows: name → what it is.
    OPTIONS: ClassVar[Mapping[str, str]] = {}
    # Whether it is another machine: `arm` looks among those of `devices.toml`.
    REMOTE: ClassVar[bool] = False

    def __init__(
        self,
        address: str = "",
        options: Mapping[str, Any] | None = None,
        tell: Tell | None = None,
        label: str = "",
    ) -> None:
        self.address = address
        self.options = dict(options or {})
        self.tell = tell or _silence
        self.label = label
        for name in self.options:
            if name not in self.OPTIONS:
                raise CompressError(
                    f"a device of this kind has no option {name!r}",
                    allowed=", ".join(self.OPTIONS) or "none",
                    next_step="take it out of devices.toml",
                )

    @abstractmethod
    def measure(self, models: list[Path], settings: ProfileSettings) -> list[Measurement]:
        """Measures models against each other.

        Args:
            models: at least one; the first is what the others are compared to.
            settings: how.

        Returns:
            One measurement a model, in order.

        Raises:
            ModelFileError: if the runtime cannot open, feed or run a model.
            MachineError: if the device cannot be reached or fails.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Returns what is known of the device, ``architecture`` at least; another machine is asked.

        Raises:
            MachineError: if it cannot be reached.
        """

    def missing(self) -> str | None:
        """Returns what stands between the device and its first measurement, or None; nothing is contacted."""
        return None

    def set_up(self) -> None:
        """Makes the device ready; what is ready already is left alone.

        Raises:
            MachineError: if that is not possible here, with what to do instead.
        """
        self.tell("nothing to set up")

    def name(self) -> str:
        """Returns what the address means, where a default stands for it."""
        return self.address


devices: Registry[type[Device]] = Registry("device", "compress.profiling.devices")

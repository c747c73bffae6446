"""The files on which the tools are compared, and how many weights each should have left."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from light import filled, light_files
from onnx import ModelProto
from weights import kill_half, load, weight_entries

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
RELEASED = ROOT.parent / "shared" / "models"


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        suite: ``topologies``, ``light`` or ``released``.
        name: unique within the suite.
        build: returns the model, the weights of the cut network, and the weights allowed: where constant channels are
            beside zero padding, one channel of a site stays to bear them.
    """

    suite: str
    name: str
    build: Callable[[], tuple[ModelProto, int, int]]


def cases() -> Iterator[Case]:
    from topologies import MASKS, TOPOLOGIES, VALUES

    for name in TOPOLOGIES:
        for value in VALUES:
            for mask in MASKS:
                yield Case("topologies", f"{name} {value} {mask}", lambda a=(name, value, mask): _topology(*a))
    for path in light_files():
        yield Case("light", path.stem.removeprefix("light_"), lambda path=path: _killed(filled(path)))
    for path in sorted(RELEASED.glob("*.onnx")):
        yield Case("released", path.stem, lambda path=path: _killed(load(path)))


def _killed(model: ModelProto) -> tuple[ModelProto, int, int]:
    killed, target = kill_half(model)
    return killed, target, target


def _topology(name: str, value: str, mask: str) -> tuple[ModelProto, int, int]:
    from topologies import exported, masked

    target = weight_entries(exported(name, half=True))
    allowed = target if value == "zero" else weight_entries(exported(name, half=True, extra=1))
    return masked(name, value, mask)[1], target, allowed

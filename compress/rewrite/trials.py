"""The inputs that a rewrite is proven on: every magnitude, and every size of a free axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from compress.onnx_io.session import input_shapes, random_inputs

_MAGNITUDES = (1.0, 0.0, 100.0, 1e-3)
# Sizes of free axes, and bounds of integer inputs (which may be indices): whatever of them the original takes.
_SIZES = (64, 512, 16, 1)
_SIDE = 128  # in place of the largest where an input has several free axes, as images have: 512 × 512 would take long
_BOUNDS = (1000, 100, 10, 2, 1)
_SYMBOLS = 4  # so many named axes are also tried with a size of their own
# Of all inputs together: more would test patience, not channels. What leaves no choice of its size may be larger.
_ELEMENTS = 1 << 24
_FIXED_ELEMENTS = 1 << 27


@dataclass(frozen=True)
class Trial:
    """Inputs to compare on.

    Attributes:
        magnitude: of floats.
        shape: sizes of free axes.
        seed: of the draw.
        spare: needed only if the original has taken no inputs of this magnitude so far.
    """

    magnitude: float
    shape: Mapping[str, Any]
    seed: int
    spare: bool = False

    def __str__(self) -> str:
        return f"inputs of magnitude {self.magnitude:g}, sizes {self.shape}"

    @property
    def ordinary(self) -> bool:
        """Whether a difference on these inputs is one that users would see."""
        return self.magnitude <= 1

    def feeds(self, model: ModelProto) -> Iterator[dict[str, np.ndarray]]:
        """Yields inputs, with smaller and smaller integers: until the original takes them."""
        kinds = [spec.dtype for spec in input_shapes(model).values()]
        indices = any(kind.kind in "iu" and kind.itemsize > 1 for kind in kinds)
        for bound in _BOUNDS if indices else _BOUNDS[:1]:
            inputs = random_inputs(model, self.seed, **self.shape, bound=bound)
            yield {name: x * x.dtype.type(self.magnitude) if x.dtype.kind == "f" else x for name, x in inputs.items()}


def trials(model: ModelProto, first_seed: int = 0) -> Iterator[Trial]:
    """Yields every magnitude; every size of free axes; and, for named axes, sizes that differ from one another."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    free = [
        [dim for dim in value.type.tensor_type.shape.dim[1:] if not dim.dim_value > 0]
        for value in model.graph.input
        if value.name not in initializers
    ]
    symbols = list(dict.fromkeys(dim.dim_param for axes in free for dim in axes if dim.dim_param))[:_SYMBOLS]
    largest, several = max(_SIZES), any(len(axes) > 1 for axes in free)
    sizes = tuple(_SIDE if several and size == largest else size for size in _SIZES) if any(free) else _SIZES[:1]
    for seed, magnitude in enumerate(_MAGNITUDES, start=first_seed):
        # One magnitude shows what a size does. Large inputs take most of the time.
        chosen = sizes if magnitude in (0.0, 1.0) else sizes[:1]
        spare = (largest,) if any(free) and (several or magnitude != _MAGNITUDES[0]) else ()
        for size in dict.fromkeys((*chosen, *spare)):
            shape = {"batch_size": 1 + (seed - first_seed) % 2, "default": size}
            yield from _affordable(model, Trial(magnitude, shape, seed, size in spare))
    for seed, size in enumerate(sizes if len(symbols) > 1 else (), start=first_seed + len(_MAGNITUDES)):
        apart = {symbol: size + index for index, symbol in enumerate(symbols)}
        yield from _affordable(model, Trial(1.0, {"batch_size": 2, "default": size, "sizes": apart}, seed))
        for symbol in symbols:
            one = {"batch_size": 2, "default": size, "sizes": {symbol: 1}}
            yield from _affordable(model, Trial(1.0, one, seed))


def _affordable(model: ModelProto, trial: Trial) -> Iterator[Trial]:
    shapes = [spec.shape for spec in input_shapes(model, **trial.shape).values()]
    fixed = shapes == [spec.shape for spec in input_shapes(model, batch_size=3, default=3).values()]
    if sum(math.prod(shape) for shape in shapes) <= (_FIXED_ELEMENTS if fixed else _ELEMENTS):
        yield trial

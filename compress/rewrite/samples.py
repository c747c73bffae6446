"""Real inputs that a rewrite is proven on: arrays named as the model's inputs, the first axis being the samples."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorShapeProto

from compress.errors import DataError, suggestion
from compress.onnx_io.session import input_shapes

_AT_ONCE = 16  # samples a run, where the model leaves its first axis free


@dataclass(frozen=True)
class Samples:
    """Real inputs, cut into what the model takes at once.

    Attributes:
        count: how many samples there are.
        runs: the inputs of each run.
    """

    count: int
    runs: tuple[dict[str, np.ndarray], ...]


def samples_for(model: ModelProto, inputs: Mapping[str, np.ndarray] | Path) -> Samples:
    """Cuts real inputs into runs of the model.

    An array of the input's rank holds samples along the model's own first axis: as many at a time as that axis takes.
    An array of one axis more holds one whole input a sample. A lone array may have any name where the model has one
    input.

    Args:
        model: whose inputs they are.
        inputs: by the names of the model's inputs, or an `.npz` file that holds them.

    Raises:
        DataError: if an input is missing or unknown, or an array does not fit it, or there are no samples.
        ModelFileError: if the model has an input that cannot be fed.
    """
    arrays = _read(inputs) if isinstance(inputs, Path) else {name: np.asarray(a) for name, a in inputs.items()}
    wanted = {name: spec.dtype for name, spec in input_shapes(model).items()}
    if len(wanted) == len(arrays) == 1:
        arrays = dict(zip(wanted, arrays.values(), strict=True))
    for name in arrays:
        if name not in wanted:
            raise DataError(f"inputs: the model has no input {name!r}", next_step=suggestion(name, wanted))
    for name, dtype in wanted.items():
        if name not in arrays:
            raise DataError(
                f"inputs: there is no array {name!r}, which the model takes",
                got=", ".join(arrays) or "none",
                next_step="name the arrays as the model names its inputs",
            )
        if arrays[name].dtype != dtype:
            raise DataError(
                f"inputs: array {name!r} has the wrong element type",
                got=str(arrays[name].dtype),
                allowed=str(dtype),
                next_step=f"convert it with .astype(np.{dtype})",
            )
    axes = {value.name: _axes(value.type.tensor_type.shape) for value in model.graph.input if value.name in wanted}
    cuts = {name: _Cut.of(name, arrays[name].shape, axes[name]) for name in wanted}
    runs = _number_of_runs(cuts)
    rows = {name: cut.samples // runs for name, cut in cuts.items()}
    feeds = []
    for run in range(runs):
        part = {}
        for name, cut in cuts.items():
            chunk = arrays[name] if cut.samples == 0 else arrays[name][run * rows[name] : (run + 1) * rows[name]]
            part[name] = chunk[0] if cut.whole else chunk
        feeds += [part]
    if all(cut.at_once is None for cut in cuts.values()):
        feeds = [
            {name: array[start : start + _AT_ONCE] for name, array in feeds[0].items()}
            for start in range(0, max(cut.samples for cut in cuts.values()), _AT_ONCE)
        ]
    return Samples(max(1, *(cut.samples for cut in cuts.values())), tuple(feeds))


@dataclass(frozen=True)
class _Cut:
    """How an array is cut: samples in all, samples at once (None: as many as there are), one axis more or not."""

    samples: int
    at_once: int | None
    whole: bool = False

    @classmethod
    def of(cls, name: str, shape: tuple[int, ...], axes: tuple[int | None, ...]) -> _Cut:
        """Fits the shape of an array to the axes of its input, None being a free one."""
        shown = "[" + ", ".join("any" if size is None else str(size) for size in axes) + "]"
        whole = len(shape) == len(axes) + 1
        own = shape[1:] if whole else shape
        rest = slice(0 if whole else 1, None)
        if len(own) != len(axes) or any(b not in (None, a) for a, b in zip(own[rest], axes[rest], strict=True)):
            raise DataError(
                f"inputs: array {name!r} does not fit the model",
                got=f"shape {list(shape)}",
                allowed=f"{shown}, the first axis being the samples, or one axis more",
                next_step="give the inputs as the network takes them",
            )
        if 0 in shape:
            raise DataError(f"inputs: array {name!r} is empty", got=f"shape {list(shape)}", next_step="give samples")
        if whole:
            return cls(shape[0], 1, whole=True)
        if not axes:
            return cls(0, None)
        if axes[0] is not None and shape[0] % axes[0]:
            raise DataError(
                f"inputs: array {name!r} cannot be cut into runs of {axes[0]}",
                got=f"{shape[0]} samples",
                allowed=f"a multiple of {axes[0]}, the model's first axis",
                next_step="leave the last samples out",
            )
        return cls(shape[0], axes[0])


def _number_of_runs(cuts: Mapping[str, _Cut]) -> int:
    """Returns how often the model runs; 1 where nothing but the number of samples would say it."""
    fixed = {name: cut.samples // cut.at_once for name, cut in cuts.items() if cut.at_once is not None}
    free = {name: cut.samples for name, cut in cuts.items() if cut.at_once is None and cut.samples}
    counted = fixed or free
    first = next(iter(counted.values()), 1)
    if any(count != first for count in counted.values()) or (fixed and any(n % first for n in free.values())):
        raise DataError(
            "inputs: the arrays hold different numbers of samples",
            got=", ".join(f"{name!r} {count}" for name, count in {**counted, **free}.items()),
            next_step="give the same number of each",
        )
    return first if fixed else 1


def _axes(shape: TensorShapeProto) -> tuple[int | None, ...]:
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in shape.dim)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"inputs {path} do not exist", next_step="give an .npz with an array for each input")
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                raise ValueError("no zip archive")
            file.seek(0)
            with np.load(file, allow_pickle=False) as held:
                return {name: np.asarray(held[name]) for name in held.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(
            f"inputs {path} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            allowed="an .npz of plain arrays (np.savez), without pickled objects",
            next_step="save it again with np.savez(path, **{input name: array})",
        ) from error

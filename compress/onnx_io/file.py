"""ONNX files: read with suspicion, written whole.

Whatever comes from elsewhere is hostile until it is checked: each way in which a file can be wrong ends in one line
that names the file, the reason and the next step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from compress.artifact import atomic_path, require_file, require_none_of, write_bytes
from compress.errors import ModelFileError
from compress.onnx_io.bombs import require_bounded
from compress.onnx_io.kinds import recognise
from compress.onnx_io.node_order import sort_nodes
from compress.onnx_io.parts import FileParts, without_raw_data
from compress.onnx_io.session import InputSpec, input_shapes, random_inputs, session
from compress.onnx_io.settled import settle_sizes
from compress.onnx_io.tensors import (
    Contents,
    contents,
    copy_fields,
    external_entry,
    is_external,
    load_external_data,
    point_to,
    require_external_data,
    require_sound_tensors,
    stored_bytes,
    tensors,
)
from compress.onnx_io.weights import Parted, data_taken_out, put_apart, rest_apart, take_apart, without_data

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

__all__ = [
    "InputSpec",
    "check_model",
    "fits_one_file",
    "input_shapes",
    "parse_model",
    "random_inputs",
    "read_model",
    "require_sound",
    "session",
    "total_bytes",
    "write_model",
]

_Found = TypeVar("_Found")

# Protobuf refuses a message of 2 GiB or more.
_MESSAGE_LIMIT_BYTES = 2**31 - 1
# To copy a file of this size twice takes less time than to look where its weights begin.
_COPIED_BYTES = 1 << 22
# Smaller tensors stay in the message when the others go to a file beside it: shapes must be readable without it.
_EXTERNAL_TENSOR_BYTES = 1024
# Lets a runtime map each tensor of the file beside a model straight into memory.
_ALIGNMENT_BYTES = 64


def read_model(path: Path, target: Path | None = None) -> onnx.ModelProto:
    """Reads, completes and checks an ONNX file.

    External data is read too, from the file's own folder only.

    Args:
        path: the file.
        target: where a model that is made from this one is going to be written, if it is known.

    Returns:
        The model, with every tensor inside it.

    Raises:
        ModelFileError: if the file is missing, a folder, empty, cut short, of another kind, larger than an ONNX file
            can be, lacks its external data or points outside its folder, holds tensors that are not what they say or
            nodes that unfold without end, or is refused by the ONNX checker; or if its data would be written over.
    """
    return read_apart(path, target).model()


def read_apart(path: Path, target: Path | None = None) -> Parted:
    """Reads, completes and checks an ONNX file; see `read_model`. No large weight is ever part of a message."""
    what = f"model {path}"
    data, raw = _read(path, _parts)
    skeleton = parse_model(data, what)
    inside = contents(skeleton)
    apart = put_apart(inside, raw or data_taken_out(inside))
    weights = {inside.tensors[index].name: values for index, values in apart.items()}
    inside = replace(inside, tensors=[tensor for index, tensor in enumerate(inside.tensors) if index not in apart])
    require_external_data(inside.tensors, path)
    for written in (target, _weights_beside(target)) if target is not None else ():
        if written.is_file():
            require_none_of(written, *_external_files(inside.tensors, path))
    require_sound(skeleton, what, inside)
    load_external_data(inside.tensors, path)
    parted = rest_apart(Parted(skeleton, weights))
    try:
        check_model(parted, what)
    except ModelFileError:
        if not sort_nodes(parted.skeleton.graph):
            raise
        check_model(parted, what)
    settle_sizes(parted.skeleton)
    return parted


def model_apart(model: onnx.ModelProto) -> Parted:
    """Returns a model that comes from no file, and that nobody has checked, as `read_apart` returns one that does.

    Args:
        model: with every tensor inside it; not changed.
    """
    parted = take_apart(model)
    sort_nodes(parted.skeleton.graph)
    settle_sizes(parted.skeleton)
    return parted


def _parts(file: BinaryIO, size: int) -> tuple[bytes, dict[int, NDArray[np.uint8]]]:
    """Reads a file, and the data of large initializers apart from it where that saves time and memory."""
    return (file.read(), {}) if size <= _COPIED_BYTES else without_raw_data(file, size)


def parse_model(data: bytes, what: str) -> onnx.ModelProto:
    """Parses the bytes of an ONNX file, without looking at what they say.

    Args:
        data: the bytes.
        what: names them in messages.

    Raises:
        ModelFileError: if they are not an ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = onnx.ModelProto()
    reason = "holds no graph: cut short, or no ONNX file at all"
    try:
        model.ParseFromString(data)
    except DecodeError:
        reason = "cannot be parsed: cut short, damaged, or no ONNX file at all"
    else:
        if model.HasField("graph") and model.ir_version > 0:
            return model
    kind, next_step = recognise(data)
    if kind is not None:
        raise ModelFileError(f"{what} is {kind}, not ONNX", next_step=next_step)
    raise ModelFileError(f"{what} {reason}", next_step="download or export it again")


def require_sound(model: onnx.ModelProto, what: str, inside: Contents | None = None) -> None:
    """Checks what native code takes for granted, before it sees a model.

    Args:
        model: as parsed.
        what: names it in messages.
        inside: what it holds, if that has been listed already.

    Raises:
        ModelFileError: if a tensor does not hold what its shape says, or something unfolds without end.
    """
    inside = inside or contents(model)
    require_sound_tensors(inside.tensors, what)
    require_bounded(model, what, inside)


def fits_one_file(size_bytes: int) -> bool:
    """Tells whether a model of this size can be written without a file of its own for its weights."""
    return size_bytes < _MESSAGE_LIMIT_BYTES


def write_model(model: onnx.ModelProto | Parted, path: Path) -> None:
    """Writes a model atomically; equal models give equal bytes.

    Weights go to ``<name>.data`` beside it where the whole would be too large for one ONNX file.

    Args:
        model: not changed.
        path: where to; replaced if it exists.

    Raises:
        MachineError: if the folder cannot be written or the disk is full.
        ModelFileError: if the model is too large even without its weights.
    """
    parts = FileParts(model)
    if fits_one_file(parts.size):
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.writelines(parts)
        return
    model = model.model() if isinstance(model, Parted) else model
    weights = _weights_beside(path)
    with atomic_path(weights) as temporary, temporary.open("wb") as file:
        outside: list[onnx.TensorProto] = []
        for tensor in model.graph.initializer:
            if (stored_bytes(tensor) or 0) < _EXTERNAL_TENSOR_BYTES or not tensor.HasField("raw_data"):
                outside.append(tensor)
                continue
            raw = tensor.raw_data
            file.write(b"\0" * (-file.tell() % _ALIGNMENT_BYTES))
            pointer = type(tensor)(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            point_to(pointer, weights.name, file.tell(), len(raw))
            file.write(raw)
            outside.append(pointer)
        data = _serialise(_with_initializers(model, outside), path)
    write_bytes(path, data)


def _with_initializers(model: onnx.ModelProto, initializers: Iterable[onnx.TensorProto]) -> onnx.ModelProto:
    """Returns a copy with other initializers; those of the original are not copied: they may be too large for that."""
    copy = type(model)()
    copy_fields(model, copy, but=("graph",))
    copy_fields(model.graph, copy.graph, but=("initializer",))
    copy.graph.initializer.extend(initializers)
    return copy


def model_files(path: Path) -> list[Path]:
    """Returns the files of a model: itself, then the external data that it names.

    Raises:
        ModelFileError: as `read_model` does, but for the checker.
    """
    model = parse_model(_read(path, lambda file, _: file.read()), f"model {path}")
    stored = tensors(model)
    require_external_data(stored, path)
    return [path, *_external_files(stored, path)]


def _external_files(stored: Iterable[onnx.TensorProto], path: Path) -> list[Path]:
    """Returns the files that the tensors of a model keep their data in."""
    named = (path.parent / external_entry(tensor)["location"] for tensor in stored if is_external(tensor))
    return list(dict.fromkeys(named))


def _weights_beside(path: Path) -> Path:
    """Returns where the weights of a model go that is too large for one file."""
    return path.with_name(path.name + ".data")


def total_bytes(path: Path) -> int:
    """Returns the size of a model on disk: the file and the external data that it names.

    Raises:
        ModelFileError: as `read_model` does, but for the checker.
    """
    return sum(file.stat().st_size for file in {file.resolve() for file in model_files(path)})


def _read(path: Path, how: Callable[[BinaryIO, int], _Found]) -> _Found:
    """Returns what a function makes of a file that may be a model, and of its size."""
    require_file(path, "model")
    size = path.stat().st_size
    if size > _MESSAGE_LIMIT_BYTES:
        raise ModelFileError(
            f"model {path} is larger than one ONNX file can be",
            got=f"{size} bytes",
            allowed=f"{_MESSAGE_LIMIT_BYTES} bytes",
            next_step="save its weights as external data",
        )
    try:
        with path.open("rb", buffering=0) as file:
            return how(file, size)
    except OSError as error:
        raise ModelFileError(f"model {path} cannot be read ({error.strerror})", next_step="check its rights") from error


def check_model(model: onnx.ModelProto | Parted, what: str) -> None:
    """Runs the ONNX checker; what large tensors hold is not its business, see `require_sound`.

    Args:
        model: of any size.
        what: names it in messages.

    Raises:
        ModelFileError: with the checker's reason, if it refuses the model.
    """
    import onnx

    try:
        onnx.checker.check_model(without_data(model))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        reason = str(error).partition("==> Context")[0].strip()
        raise ModelFileError(f"{what} is refused by the ONNX checker: {reason}", next_step="export it again") from error


def _serialise(model: onnx.ModelProto, path: Path) -> bytes:
    from google.protobuf.message import EncodeError

    try:
        data: bytes = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise ModelFileError(
            f"cannot write {path}: the model is too large for one ONNX file", next_step="store its weights as raw data"
        ) from error
    return data

"""The verbs: an ONNX file becomes a packed one, and the same ONNX file again."""

from __future__ import annotations

from pathlib import Path

from compress.artifact import require_file, require_target, write_bytes
from compress.coding.packed import Packed, pack, unpack
from compress.errors import ModelFileError
from compress.onnx_io.file import read_model


def pack_file(source: Path, target: Path, *, conv_index_bits: int = 8, linear_index_bits: int = 5) -> Packed:
    """Packs an ONNX file; see `compress.coding.packed.pack`.

    Raises:
        ModelFileError: if the source is missing, damaged, keeps weights in another file, or is the target.
        MachineError: if the target cannot be written.
    """
    require_target(target, source)
    packed = packed_model(source, conv_index_bits=conv_index_bits, linear_index_bits=linear_index_bits)
    write_bytes(target, packed.data)
    return packed


def packed_model(source: Path, *, conv_index_bits: int = 8, linear_index_bits: int = 5) -> Packed:
    """Packs an ONNX file into memory. Raises like `pack_file`."""
    read_model(source)
    try:
        return pack(source.read_bytes(), conv_index_bits=conv_index_bits, linear_index_bits=linear_index_bits)
    except ModelFileError as error:
        raise ModelFileError(f"{source}: {error}") from error


def unpack_file(source: Path, target: Path) -> int:
    """Unpacks an ONNX file, and returns its bytes.

    Raises:
        ModelFileError: if the source is missing, no packed model, damaged, or the target.
        MachineError: if the target cannot be written.
    """
    require_target(target, source)
    try:
        data = unpack(require_file(source, "packed model").read_bytes())
    except ModelFileError as error:
        raise ModelFileError(f"{source}: {error}") from error
    write_bytes(target, data)
    return len(data)

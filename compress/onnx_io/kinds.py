"""What a file that should have been ONNX is instead, judged by its first bytes."""

from __future__ import annotations

import io
import zipfile

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (4, b"TFL3", "a TensorFlow Lite model", "convert it with tf2onnx --tflite"),
    (4, b"ORTM", "an ONNX Runtime .ort model", "give the .onnx file that it was made from"),
    (0, b"\x89HDF\r\n\x1a\n", "a Keras HDF5 file", "convert it with tf2onnx"),
    (0, b"GGUF", "a GGUF file", "give an ONNX file"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (0, b"\x93NUMPY", "a NumPy array", "give an ONNX file"),
    (0, b"<!DOCTYPE", "an HTML page", "download the file itself, not the page about it"),
    (0, b"<html", "an HTML page", "download the file itself, not the page about it"),
)


def recognise(data: bytes) -> tuple[str | None, str]:
    """Recognises a file by its bytes.

    Args:
        data: the whole file.

    Returns:
        What it looks like, or None, and the next step.
    """
    for start, magic, kind, next_step in _MAGIC:
        if data[start : start + len(magic)] == magic:
            return kind, next_step
    if data[:4] == b"PK\x03\x04":
        return _recognise_zip(data)
    if data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05":
        return "a Python pickle, such as an old PyTorch checkpoint", "export the network to ONNX"
    if data[8:10] == b'{"' and int.from_bytes(data[:8], "little") < len(data):
        return "a safetensors file: weights without a network", "export the network to ONNX"
    if data[:1] in (b"{", b"["):
        return "a JSON file", "give an ONNX file"
    return None, "give an ONNX file"


def _recognise_zip(data: bytes) -> tuple[str, str]:
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except zipfile.BadZipFile:
        names = []
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file (.pt, .pth)", "export the network to ONNX with torch.onnx.export"
    if any(name.endswith("model.weights.h5") for name in names):
        return "a Keras file", "convert it with tf2onnx"
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy .npz file", "give an ONNX file"
    return "a zip archive", "unpack it first"

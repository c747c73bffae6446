"""Models as the process that runs them gets them: as bytes, or as files where there are too many of them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from compress.onnx_io.file import write_model
from compress.onnx_io.parts import FileParts

_PIPED_BYTES = 1 << 25  # larger models go to the runtime as files


class Sources:
    """What models are opened from. A folder for files is made when the first of them is too large for anything else."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None

    def source(self, parts: FileParts, name: str, file: Path | None = None) -> bytes | Path:
        """Returns a model as bytes, or as a file if it is large: the one it is from, or a new one.

        Args:
            parts: of the model.
            name: of a new file; it replaces an earlier one of that name.
            file: the one it is from.

        Raises:
            MachineError: if it cannot be written.
        """
        if parts.size <= _PIPED_BYTES:
            return b"".join(parts)
        if file is None:
            self._folder = self._folder or TemporaryDirectory(prefix="compress-")
            file = Path(self._folder.name) / name
            write_model(parts.model, file)
        return file

    def close(self) -> None:
        """Removes the files that have been made."""
        if self._folder is not None:
            self._folder.cleanup()

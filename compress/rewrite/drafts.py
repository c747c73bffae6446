"""A result's file, written while the result is still being proven: a disk takes its time to store what it is given."""

from __future__ import annotations

from pathlib import Path

from compress.artifact import Draft
from compress.onnx_io.file import fits_one_file, write_model
from compress.onnx_io.parts import FileParts
from compress.onnx_io.weights import Parted


class Drafts:
    """The file that a result may become. What has not been kept in the end is removed.

    Args:
        target: the file; nothing is written if there is none.

    Attributes:
        target: the same.
    """

    def __init__(self, target: Path | None = None) -> None:
        self.target = target
        self._file: FileParts | None = None
        self._draft: Draft | None = None

    def __enter__(self) -> Drafts:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def write(self, file: FileParts) -> None:
        """Writes a result that may be kept, in place of the one before; one that needs two files is written later."""
        self._drop()
        if self.target is not None and fits_one_file(file.size):
            self._file, self._draft = file, Draft(self.target, file)

    def keep(self, model: Parted) -> None:
        """Writes the result that is wanted, unless that has been done."""
        if self._draft is not None and self._file is not None and model is self._file.model:
            self._draft.keep()
        elif self.target is not None:
            write_model(model, self.target)

    def _drop(self) -> None:
        if self._draft is not None:
            self._draft.drop()
        self._file = self._draft = None

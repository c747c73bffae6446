"""What the stages of a run share: the recipe, the folders, the data, and somebody to report to."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Protocol

from compress.artifact import sha256_file, sha256_json
from compress.data import load_dataset
from compress.data.base import Dataset
from compress.data.sources import data_roots
from compress.errors import ModelFileError
from compress.recipe import Recipe
from compress.user_code import is_reference, reference_path


class Reporter(Protocol):
    """Who is told how a run goes on."""

    def stage(self, name: str, status: str) -> None:
        """Is called with ``running``, ``done`` or ``reused``."""

    def progress(self, done: float, text: str) -> None:
        """Is called within a stage; `done` is a share of it, 0…1."""

    def note(self, text: str) -> None:
        """Is called with a line that the user should read."""


class Silence:
    """A reporter that says nothing."""

    def stage(self, name: str, status: str) -> None:
        """Ignores it."""

    def progress(self, done: float, text: str) -> None:
        """Ignores it."""

    def note(self, text: str) -> None:
        """Ignores it."""


class RunContext:
    """A run.

    Args:
        recipe: what to do.
        base: the recipe's folder: relative paths count from it.
        folder: the run folder.
        name: of the run.
        export_folder: where the artefact is published.
        reporter: who is told.
        dataset: the recipe's data, where they have been read already.
    """

    def __init__(
        self,
        recipe: Recipe,
        base: Path,
        folder: Path,
        name: str,
        export_folder: Path,
        reporter: Reporter,
        dataset: Dataset | None = None,
    ) -> None:
        self.recipe = recipe
        self.name = name
        self.export_folder = export_folder
        self.base = base
        self.folder = folder
        self.reporter = reporter
        self._dataset = dataset

    def path(self, name: str) -> Path:
        """Returns a file of the run folder."""
        return self.folder / name

    @cached_property
    def dataset(self) -> Dataset:
        """The data, read when first asked for."""
        return self._dataset or load_dataset(self.recipe.data, base=self.base, seed=self.recipe.seed)

    def find(self, name: str, what: str) -> Path:
        """Finds a file that the recipe names: beside it, or in one of the data folders.

        Raises:
            ModelFileError: listing where it was looked for.
        """
        places = [self.base, *data_roots(self.base)]
        for place in dict.fromkeys(places):
            if (place / name).is_file():
                return place / name
        raise ModelFileError(
            f"{what} {name} is in none of {', '.join(map(str, dict.fromkeys(places)))}",
            next_step="put it there, or name its folder in COMPRESS_DATA",
        )

    def data_fingerprint(self) -> str:
        """Returns a hash that changes with the data that the recipe names, as far as that is quick to tell.

        A file counts with its content, a folder with the names, sizes and times of its files, a registered set with
        its name: its reader checks what is in it.
        """
        source = self.recipe.data.source
        if is_reference(source):
            return self.code_fingerprint(source)
        for root in (self.base, *data_roots(self.base)):
            path = root / Path(source).expanduser()
            if path.is_file():
                return sha256_file(path)
            if path.is_dir():
                stats = [(str(p.relative_to(path)), p.stat()) for p in sorted(path.rglob("*")) if p.is_file()]
                return sha256_json([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])
        return source

    def code_fingerprint(self, reference: str) -> str:
        """Returns a hash of the user's file behind a reference, or the registered name itself."""
        if is_reference(reference) and reference_path(reference, self.base).is_file():
            return sha256_file(reference_path(reference, self.base))
        return reference

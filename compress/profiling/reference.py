"""What a model is fed on this machine, and what comes out: for devices that cannot make inputs, and to compare with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from compress.errors import ModelFileError
from compress.profiling.local_runner import start
from compress.profiling.parity import Arrays, Given
from compress.profiling.python_runner import read_answer, runner_request, unreadable
from compress.recipe import ProfileSettings


def references(models: list[Path], settings: ProfileSettings) -> list[tuple[Arrays, Arrays]]:
    """Returns inputs and outputs of each model; an output that is no array of numbers is left out.

    Raises:
        ModelFileError: if a model cannot be opened, fed or run.
        MachineError: if this machine's runner fails.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        targets = [f"{folder}/{index}.npz" for index in range(len(models))]
        request = runner_request([str(model.resolve()) for model in models], settings, loads=0)
        try:
            read_answer(start({**request, "action": "reference", "targets": targets}), models)
        except (LookupError, TypeError, ValueError) as error:
            raise unreadable("host", error) from error
        for target in targets:
            with np.load(target, allow_pickle=False) as archive:
                feed, output = (
                    {str(name): archive[f"{kind}{i}"] for i, name in enumerate(archive[f"{kind}_names"])}
                    for kind in ("feed", "output")
                )
                found.append((feed, output))
    return found


def references_if_any(models: list[Path], settings: ProfileSettings) -> Given:
    """Returns the references, or why there are none: another machine's runtime may know what this one's does not."""
    try:
        return references(models, settings)
    except ModelFileError as error:
        return error

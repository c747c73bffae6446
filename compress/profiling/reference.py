"""What a model is fed on this machine, and what comes out: for devices that cannot make inputs, and to compare with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from compress.profiling.devices.host import start
from compress.profiling.python_runner import read_answer, runner_request, unreadable
from compress.recipe import ProfileSettings

Arrays = dict[str, np.ndarray]


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


def parity(outputs: Arrays, expected: Arrays) -> tuple[float | None, str | None]:
    """Returns the largest absolute difference, or None and why there is none."""
    largest = 0.0
    for name, array in expected.items():
        other = outputs.get(name)
        if other is None or array.shape != other.shape:
            return None, f"output {name!r} has another shape than on this machine: nothing was compared"
        a, b = array.astype(np.float64), other.astype(np.float64)
        unlike = (a != b) & ~(np.isnan(a) & np.isnan(b))
        if not np.isfinite(a[unlike]).all() or not np.isfinite(b[unlike]).all():
            return None, f"output {name!r} holds infinities or no numbers at places where this machine's does not"
        largest = max(largest, float(np.abs(a[unlike] - b[unlike]).max(initial=0.0)))
    return (largest, None) if expected else (None, None)

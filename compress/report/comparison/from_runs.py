"""Several runs beside each other, as a comparison shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from compress.errors import CompressError
from compress.report.comparison.model import ComparisonFigures
from compress.report.model import RunFigures
from compress.report.summary import accuracy_ends


def comparison_of(runs: Sequence[RunFigures]) -> ComparisonFigures:
    """Returns the figures of several runs as those of a comparison.

    Runs of one method at one ratio that differ in their seeds are repetitions; what else is alike is told apart by the
    runs' names.

    Args:
        runs: at least one, of one network.

    Raises:
        CompressError: if a run lacks accuracy or sizes, or the runs began with different networks.
    """
    labels = _labels(runs)
    entries: dict[tuple[str, float | None], dict[str, Any]] = {}
    unpruned: dict[int, dict[str, Any]] = {}
    for run, label in zip(runs, labels, strict=True):
        before, after = _trials(run)
        ratio = run.recipe.get("prune", {}).get("ratio")
        entry = entries.setdefault((label, ratio), {"method": label, "ratio": ratio, "trials": []})
        entry["trials"].append(after)
        unpruned.setdefault(before["seed"], before)
    sizes = {(trial["parameters"], trial["macs"]) for trial in unpruned.values()}
    if len(sizes) > 1:
        words = " and ".join(f"{parameters:,}" for parameters, _ in sorted(sizes)[:2])
        raise CompressError(
            f"the runs began with different networks: {words} parameters", next_step="report each by itself"
        )
    counted = runs[0].recipe.get("prune", {}).get("of")
    return ComparisonFigures.from_dict(
        {
            "name": ", ".join(dict.fromkeys(run.name for run in runs)),
            "by": "parameters" if counted == "parameters" else "macs",
            "unpruned": list(unpruned.values()),
            "entries": list(entries.values()),
            "machine": runs[0].machine if all(run.machine == runs[0].machine for run in runs) else {},
        }
    )


def method_text(recipe: Mapping[str, Any]) -> str:
    """Returns the method of a recipe as `compress compare` writes it, without knobs."""
    prune = recipe.get("prune", {})
    regularizer = (recipe.get("sparsify") or {}).get("regularizer") or {}
    schedule = prune.get("schedule", {}).get("name", "one-shot")
    return (
        (f"{regularizer['name']}+" if regularizer else "")
        + str(prune.get("method", "filter-l1"))
        + (f"/{schedule}" if schedule != "one-shot" else "")
    )


def _labels(runs: Sequence[RunFigures]) -> list[str]:
    keys = [(method_text(run.recipe), run.recipe.get("prune", {}).get("ratio"), run.seed) for run in runs]
    names = [
        f"{key[0]} ({run.name})" if Counter(keys)[key] > 1 else key[0] for run, key in zip(runs, keys, strict=True)
    ]
    # Runs of one name in different folders.
    found = Counter(zip(names, keys, strict=True))
    return [
        f"{name} {index + 1}" if found[name, key] > 1 else name
        for index, (name, key) in enumerate(zip(names, keys, strict=True))
    ]


def _trials(run: RunFigures) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the run's network before and after."""
    ends = accuracy_ends(run)
    cut: dict[str, Any] = next((stage.figures for stage in run.stages if stage.name == "prune"), {})
    # The cut's own figures know of single weights that are zero in the file.
    before, after = (
        {
            "seed": run.seed or 0,
            "accuracy": end.accuracy if end is not None else None,
            "parameters": cut.get(f"cost_{when}", {}).get("parameters", size.parameters),
            "macs": cut.get(f"cost_{when}", {}).get("macs", size.macs),
            "file_bytes": size.file_bytes,
        }
        for when, size, end in zip(
            ("before", "after"), (run.sizes.before, run.sizes.after), ends or (None, None), strict=True
        )
    )
    for what, key in (("accuracy", "accuracy"), ("sizes", "parameters"), ("sizes", "macs")):
        if before[key] is None or after[key] is None:
            raise CompressError(f"run {run.name!r} has no {what}", next_step="run it to its end, or leave it out")
    seconds = [stage.seconds for stage in run.stages if stage.name != "train" and stage.seconds is not None]
    return before, {
        **after,
        "seconds": round(sum(seconds), 3) if seconds else None,
        "channels": [layer.model_dump(mode="json") for layer in run.channels],
    }

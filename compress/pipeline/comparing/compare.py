"""`compare`: the same budgets for each method."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from compress.artifact import sha256_json, write_text
from compress.data import load_dataset
from compress.errors import CompressError, MachineError, RecipeError
from compress.pipeline.comparing.identity import SETTINGS_NAME, claim
from compress.pipeline.comparing.spec import MethodSpec, read_specs
from compress.pipeline.comparing.trial import Bench, finished, run_trial, tidy
from compress.pipeline.context import Reporter, RunContext, Silence
from compress.pipeline.machine import machine_facts
from compress.pipeline.run import locked, run_name
from compress.recipe import Recipe, load_recipe
from compress.report.comparison import ComparisonFigures, ComparisonPaths, write_comparison

Number = TypeVar("Number", int, float)
_COSTS = {"params": "parameters", "parameters": "parameters", "macs": "macs"}
# What torch and numpy raise where a method meets a network that it cannot cope with.
_BREAKDOWNS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Comparison:
    """What a comparison ends with.

    Attributes:
        folder: with everything in it.
        figures: everything that was measured.
        paths: JSON, Markdown and HTML.
    """

    folder: Path
    figures: ComparisonFigures
    paths: ComparisonPaths


@dataclass(frozen=True)
class _Cell:
    """One network that is asked for."""

    spec: MethodSpec
    ratio: float
    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.spec.text}, {self.ratio:.4g} of {self.recipe.prune.of} gone, seed {self.recipe.seed}"


def compare(
    recipe_path: Path,
    methods: str | Sequence[str],
    ratios: Sequence[float],
    seeds: Sequence[int] | None = None,
    *,
    budget_by: str | None = None,
    folder: Path | None = None,
    reporter: Reporter | None = None,
) -> Comparison:
    """Brings each method to the same budgets, from the same weights, with the same retraining, and measures it.

    For each seed the network is trained once. Each (method, ratio, seed) has a folder of its own; what is finished
    there is never done again, so that an interrupted comparison goes on, and methods, ratios and seeds can be added.
    Nothing is chosen by the test images. What a method fails at is told in the result, and does not stop the others.

    Args:
        recipe_path: the recipe; its budget, profile and [prune] ratio have no meaning here.
        methods: e.g. ``["fpgm", "hsq-gl12:strength=1e-5+backward-selection", "filter-l1/iterative:rounds=3"]``, or one
            string with commas between them.
        ratios: shares of the cost that go, each above 0 and below 1.
        seeds: of weights, splits, shuffles and samples; default: the recipe's.
        budget_by: the cost, `params` or `macs`; default: [prune] of.
        folder: default: ``runs/<name of the recipe>-comparison``.
        reporter: who is told how it goes on.

    Raises:
        RecipeError: if a method, ratio or seed is not what it must be, or the folder holds other results.
        CompressError: as the shared training does.
        MachineError: if memory, a device or disk space is lacking.
    """
    recipe = load_recipe(recipe_path)
    specs = read_specs(methods)
    seeds = _distinct([recipe.seed] if seeds is None else seeds, "seed")
    ratios = _ratios(ratios)
    of = _cost(budget_by, recipe)
    name = run_name(recipe_path)
    folder = (folder or Path("runs") / f"{name}-comparison").absolute()
    base = recipe_path.resolve().parent
    reporter = reporter or Silence()
    cells = {
        seed: [
            _Cell(
                spec, ratio, spec.applied(recipe, ratio=ratio, of=of, seed=seed), _place(folder, spec, of, ratio, seed)
            )
            for spec in specs
            for ratio in ratios
        ]
        for seed in seeds
    }
    results: dict[Path, dict[str, Any]] = {}
    with locked(folder, SETTINGS_NAME):
        claim(folder, RunContext(recipe, base, folder, name, folder, reporter))
        for seed in seeds:
            results |= _of_one_seed(cells[seed], base, folder / "baseline" / f"seed-{seed}", reporter)
            figures = _figures(name, recipe, of, [cell for part in cells.values() for cell in part], results)
            paths = write_comparison(figures, folder)
    return Comparison(folder, figures, paths)


def _of_one_seed(cells: Sequence[_Cell], base: Path, shared: Path, reporter: Reporter) -> dict[Path, dict[str, Any]]:
    """Returns what became of each network by its folder: `pruned` and `unpruned`, or `reason`."""
    results = {}
    bench: Bench | None = None
    for cell in cells:
        found = finished(cell.folder)
        if found is not None:
            tidy(cell.folder)
            reporter.stage(cell.name, "reused")
            results[cell.folder] = found
            continue
        if bench is None:
            recipe = cell.recipe
            bench = Bench(base, shared, load_dataset(recipe.data, base=base, seed=recipe.seed), reporter)
            reporter.stage(f"baseline, seed {recipe.seed}", "running")
            bench.train(recipe)
            reporter.stage(f"baseline, seed {recipe.seed}", "done")
        reporter.stage(cell.name, "running")
        results[cell.folder] = _tried(bench, cell)
        reporter.stage(cell.name, "failed" if "reason" in results[cell.folder] else "done")
    return results


def _tried(bench: Bench, cell: _Cell) -> dict[str, Any]:
    try:
        return run_trial(bench, cell.recipe, cell.folder, cell.name)
    except MachineError:
        raise
    except CompressError as error:
        return {"reason": str(error)}
    except _BREAKDOWNS as error:
        path = cell.folder / "failure.txt"
        write_text(path, traceback.format_exc())
        return {"reason": f"{type(error).__name__}: {' '.join(str(error).split())}; see {path}"}


def _figures(
    name: str, recipe: Recipe, of: str, cells: Sequence[_Cell], results: dict[Path, dict[str, Any]]
) -> ComparisonFigures:
    unpruned: dict[int, dict[str, Any]] = {}
    entries: dict[tuple[str, float], dict[str, Any]] = {}
    for cell in cells:
        key = cell.spec.text, cell.ratio
        entry = entries.setdefault(key, {"method": cell.spec.text, "ratio": cell.ratio, "trials": [], "failures": []})
        result = results.get(cell.folder, {})
        if "pruned" in result:
            entry["trials"].append(result["pruned"])
            unpruned.setdefault(cell.recipe.seed, result["unpruned"])
        elif "reason" in result:
            entry["failures"].append({"seed": cell.recipe.seed, "reason": result["reason"]})
    return ComparisonFigures.from_dict(
        {
            "name": name,
            "by": of,
            "unpruned": list(unpruned.values()),
            "entries": list(entries.values()),
            "recipe": recipe.model_dump(mode="json", exclude_none=True),
            "machine": machine_facts(),
        }
    )


def _place(folder: Path, spec: MethodSpec, of: str, ratio: float, seed: int) -> Path:
    plain = spec.text.translate(str.maketrans("/:", "@,"))
    safe = re.sub(r"[^A-Za-z0-9@,.=+_-]", "_", plain)
    word = safe if safe == plain else f"{safe}-{sha256_json(spec.text)[:8]}"
    return folder / "networks" / word / f"{of}-{ratio!r}" / f"seed-{seed}"


def _ratios(ratios: Sequence[float]) -> list[float]:
    found = [float(ratio) for ratio in ratios]
    for ratio in found:
        if not 0 < ratio < 1:
            raise RecipeError("a ratio is the share that goes", got=ratio, allowed="above 0 and below 1, e.g. 0.5")
    return _distinct(found, "ratio")


def _cost(budget_by: str | None, recipe: Recipe) -> str:
    asked = budget_by or recipe.prune.of
    if asked not in _COSTS:
        where = "--budget-by" if budget_by else "[prune] of"
        raise RecipeError(f"{where} is no cost to compare by", got=asked, allowed="--budget-by params or macs")
    return _COSTS[asked]


def _distinct(values: Sequence[Number], what: str) -> list[Number]:
    if not values:
        raise RecipeError(f"no {what} is given", next_step=f"give at least one {what}")
    for value in values:
        if list(values).count(value) > 1:
            raise RecipeError(f"{what} {value} is given twice", next_step="leave one out")
    return list(values)

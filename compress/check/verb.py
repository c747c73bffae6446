"""Budgets: limits of a deployable model, checked against what the file itself says and what the run measured.

Sizes, parameters, multiply-accumulates, memory and operators are counted anew from the model file. Accuracy and latency
cannot be: they come from the `metrics.json` that the run wrote beside the model, which names the model by its SHA-256;
latency also from what `compress profile` kept of exactly this file.
A limit whose figure is absent has failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.artifact import sha256_file, write_json
from compress.check.latency import latency_of
from compress.check.metrics import (
    BASELINE_FIGURES,
    BASELINE_NAME,
    METRICS_NAME,
    Baseline,
    Metrics,
    read_beside,
    validated,
)
from compress.check.models import budget_beside, models_of
from compress.errors import ModelFileError, RecipeError
from compress.recipe import Budget

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Facts:
    """What is known of one model file.

    Attributes:
        file_bytes: with its external data.
        parameters: see `compress.onnx_io.cost.Cost`, as for the next three.
        macs: of one image.
        peak_activation_bytes: of one image; None where a size is unknown.
        operators: operator → how many.
        uncounted: nodes whose multiply-accumulates are unknown, with the reason.
        metrics: what the run measured; None where it left nothing.
    """

    file_bytes: int
    parameters: int
    macs: int
    peak_activation_bytes: int | None
    operators: dict[str, int]
    uncounted: tuple[str, ...]
    metrics: Metrics | None

    def baseline(self) -> dict[str, int]:
        """Returns what a `baseline.json` for this model holds."""
        return {name: getattr(self, name) for name in BASELINE_FIGURES}


@dataclass(frozen=True)
class Row:
    """One limit.

    Attributes:
        model: which file, as a path.
        name: the budget's key, ``latency_ratio.host`` for a device, or ``file_bytes against baseline``.
        before: the figure of the network before, or of the baseline; None where there is none.
        measured: the figure; None where it is absent.
        limit: what is allowed.
        passed: whether the figure is within it.
        note: why not, or what the figure is.
    """

    model: str
    name: str
    before: float | None
    measured: float | list[str] | None
    limit: float | list[str] | None
    passed: bool
    note: str = ""


@dataclass(frozen=True)
class CheckResult:
    """Every limit that was checked."""

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return all(row.passed for row in self.rows)

    @property
    def violations(self) -> tuple[Row, ...]:
        """The limits that are not kept."""
        return tuple(row for row in self.rows if not row.passed)

    @property
    def exit_code(self) -> int:
        """0 if every limit is kept, else 1."""
        return 0 if self.passed else 1

    def to_dict(self) -> dict[str, Any]:
        """Returns the result as a JSON value."""
        return {"passed": self.passed, "rows": [asdict(row) for row in self.rows]}


def measure(model: onnx.ModelProto | Path, facts: dict[str, Any] | None = None) -> Facts:
    """Counts what a model file says of itself.

    Args:
        model: a file, or a model in memory, whose size is then that of its message.
        facts: what a `metrics.json` holds, if there is one.

    Raises:
        ModelFileError: if the file is damaged or `facts` is malformed.
    """
    from compress.onnx_io.cost import onnx_cost
    from compress.onnx_io.file import read_model, total_bytes

    if isinstance(model, Path):
        file_bytes, content = total_bytes(model), read_model(model)
    else:
        file_bytes, content = model.ByteSize(), model
    return Facts(
        file_bytes=file_bytes,
        metrics=None if facts is None else validated(facts, Metrics, METRICS_NAME),
        **vars(onnx_cost(content)),
    )


def check(path: Path, budget: Budget | None = None) -> CheckResult:
    """Checks models against their budgets.

    Args:
        path: a model file, a folder that holds `model.onnx`, or a folder with such folders at any depth, each with a
            `budget.toml`.
        budget: the limits of each model that is found, with or without a `budget.toml`; by default what stands there.

    Raises:
        RecipeError: if a budget is missing, malformed, or limits nothing.
        ModelFileError: if a model is missing or damaged, or a JSON file beside it is malformed.
    """
    return CheckResult(
        tuple(row for model in models_of(path, every=budget is not None) for row in _rows(model, budget))
    )


def accept(path: Path, *, every: bool = False) -> list[Path]:
    """Takes models as they are as the baseline that later ones must not exceed.

    Args:
        path: as for `check`.
        every: models without a `budget.toml`, too.

    Returns:
        the `baseline.json` files that were written, one beside each model.

    Raises:
        RecipeError: if there is no budget in the folder or below.
        ModelFileError: if a model is missing or damaged.
    """
    written = []
    for model in models_of(path, every=every):
        baseline = model.with_name(BASELINE_NAME)
        write_json(baseline, _counts(model).baseline())
        written.append(baseline)
    return written


def _counts(model: Path) -> Facts:
    """Counts what a model file says of itself. Raises like `measure`, and if there is none."""
    if not model.is_file():
        raise ModelFileError(
            f"{model} does not exist", next_step="run `compress run` with its recipe to make it, or check the path"
        )
    return measure(model)


def _rows(model: Path, budget: Budget | None) -> list[Row]:
    rows: list[Row] = []
    # What is no model needs no budget.
    facts = _counts(model)
    budget = budget or budget_beside(model)
    metrics = read_beside(model, METRICS_NAME, Metrics)
    baseline = read_beside(model, BASELINE_NAME, Baseline)
    absent = f"no {METRICS_NAME} beside the model"
    if metrics is not None and metrics.model_sha256 != sha256_file(model):
        note = f"{METRICS_NAME} belongs to another model: run `compress run` again"
        rows.append(Row(str(model), METRICS_NAME, None, None, None, False, note))
        metrics, absent = None, f"{METRICS_NAME} belongs to another model"
    rows += _counted(model, facts, budget)
    rows += _measured(model, metrics, absent, budget)
    if baseline is not None:
        rows += _against_baseline(model, facts, baseline)
    if not rows:
        raise RecipeError(
            f"the budget of {model} limits nothing",
            allowed=", ".join(Budget.model_fields),
            next_step="give at least one limit",
        )
    return rows


def _counted(model: Path, facts: Facts, budget: Budget) -> Iterator[Row]:
    """Yields a row for each limit of a figure that the file itself holds."""
    for name in ("file_bytes", "parameters", "macs", "peak_activation_bytes"):
        limit = getattr(budget, name)
        if limit is None:
            continue
        figure = getattr(facts, name)
        note = "the size of an activation is unknown" if figure is None else ""
        if name == "macs" and facts.uncounted:
            note = "uncounted: " + ", ".join(facts.uncounted)
        yield Row(str(model), name, None, figure, limit, not note and figure <= limit, note)
    if budget.packed_bytes is not None:
        yield _packed(model, budget.packed_bytes)
    if budget.operators is not None:
        other = sorted(set(facts.operators) - set(budget.operators))
        note = f"not allowed: {', '.join(other)}" if other else ""
        yield Row(str(model), "operators", None, sorted(facts.operators), budget.operators, not other, note)


def _packed(model: Path, limit: int) -> Row:
    """Returns the row of the packed size: packing takes a while, and is done only where that is limited."""
    from compress.coding.verb import packed_model

    try:
        figure, note = len(packed_model(model).data), ""
    except ModelFileError as error:
        figure, note = None, f"it cannot be packed: {error}"
    return Row(str(model), "packed_bytes", None, figure, limit, figure is not None and figure <= limit, note)


def _measured(model: Path, metrics: Metrics | None, absent: str, budget: Budget) -> Iterator[Row]:
    """Yields a row for each limit of a figure that only a run can know."""
    accuracy = metrics.accuracy if metrics else None
    missing = f"no accuracy in {METRICS_NAME}" if metrics else f"{absent}; next: compress run, with its recipe"
    if budget.accuracy is not None:
        after = accuracy.after if accuracy else None
        before = accuracy.before if accuracy else None
        passed = after is not None and after >= budget.accuracy
        yield Row(str(model), "accuracy", before, after, budget.accuracy, passed, "" if accuracy else missing)
    if budget.accuracy_drop is not None:
        # Rounded: 91.2 - 90.7 is a little more than half a point in binary.
        drop = round(accuracy.before - accuracy.after, 6) if accuracy else None
        passed = drop is not None and drop <= budget.accuracy_drop
        yield Row(str(model), "accuracy_drop", None, drop, budget.accuracy_drop, passed, "" if accuracy else missing)
    for device, limit in budget.latency_ratio.items():
        latency, note = latency_of(model, metrics, device, absent)
        high = latency.high if latency else None
        yield Row(str(model), f"latency_ratio.{device}", None, high, limit, high is not None and high <= limit, note)


def _against_baseline(model: Path, facts: Facts, baseline: Baseline) -> Iterator[Row]:
    for name in BASELINE_FIGURES:
        limit, figure = getattr(baseline, name), getattr(facts, name)
        if limit is not None:
            note = f"grew by {figure - limit:,}; `compress check --accept` takes it as it is" if figure > limit else ""
            yield Row(str(model), f"{name} against baseline", limit, figure, limit, figure <= limit, note)

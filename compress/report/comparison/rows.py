"""The rows of a comparison, as text that is ready to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compress.report.comparison.interval import Mean, mean
from compress.report.comparison.model import ComparisonFigures, Entry, Trial
from compress.report.wording import fixed, show

HEAD = ("method", "to go", "accuracy (%)", "difference", "kept parameters", "kept MACs", "file (bytes)", "time (s)")
BRIEF_HEAD = (*HEAD[:3], "parameters", "MACs", "bytes", "s")
ACCURACY = 2  # its place in the head
UNPRUNED = "unpruned"


@dataclass(frozen=True)
class Row:
    """One method at one budget.

    Attributes:
        cells: as `HEAD` names them.
        brief: the same for a narrow table, as `BRIEF_HEAD` names them: no difference, shares of costs alone.
        reasons: why networks are missing.
        best: whether its mean accuracy is the highest at its budget.
    """

    cells: tuple[str, ...]
    brief: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    best: bool = False


def rows(figures: ComparisonFigures) -> list[Row]:
    """Returns the network before any cut, then each method at each budget, the mildest cut first.

    The difference is that to the first method at the same budget, in points of accuracy, paired by seed: networks of
    one seed started from the same weights, so that chance moves the difference less than the accuracies.
    """
    found = [_row(UNPRUNED, "–", figures.unpruned, figures)] if figures.unpruned else []
    for entry in sorted(figures.entries, key=lambda entry: entry.ratio or 0.0):
        gone = f"{show(100 * entry.ratio, 3)} %" if entry.ratio is not None else "–"
        reasons = tuple(f"seed {failure.seed}: {failure.reason}" for failure in entry.failures)
        row = _row(entry.method, gone, entry.trials, figures, _difference(entry, figures))
        found.append(replace(row, reasons=reasons, best=_is_best(entry, figures.entries)))
    return found


def cost_name(by: str) -> str:
    """Returns a cost as it is written in a sentence."""
    return "MACs" if by == "macs" else by


def verdict(figures: ComparisonFigures) -> str:
    """Returns in one line what was compared, and whether anything is missing."""
    made = {trial.seed for entry in figures.entries for trial in entry.trials}
    seeds = made | {failure.seed for entry in figures.entries for failure in entry.failures}
    methods = len(figures.methods)
    many = f"{methods} methods" if methods != 1 else "One method"
    repeats = f"{len(seeds)} seeds" if len(seeds) != 1 else "one seed"
    failures = sum(len(entry.failures) for entry in figures.entries)
    missing = f"; {failures} network{'s' if failures > 1 else ''} could not be made" if failures else ""
    return f"{many} at the same share of the {cost_name(figures.by)}, {repeats} each{missing}"


def accuracy_text(trials: Sequence[Trial]) -> str:
    """Returns mean and 95 % interval over seeds."""
    if not trials:
        return "failed"
    found = mean([trial.accuracy for trial in trials])
    return fixed(found.value, 2) + _half_width(found)


def _difference(entry: Entry, figures: ComparisonFigures) -> str:
    rivals = [other for other in figures.entries if other.ratio == entry.ratio]
    first = {trial.seed: trial.accuracy for trial in rivals[0].trials}
    pairs = [trial.accuracy - first[trial.seed] for trial in entry.trials if trial.seed in first]
    if entry is rivals[0] or not pairs:
        return "–"
    found = mean(pairs)
    return fixed(found.value, 2, sign=True) + _half_width(found)


def _half_width(found: Mean) -> str:
    return f" ± {fixed(found.half_width, 2)}" if found.half_width is not None else ""


def _row(method: str, gone: str, trials: Sequence[Trial], figures: ComparisonFigures, difference: str = "–") -> Row:
    def averaged(figure: Callable[[Trial], float | None]) -> float | None:
        known = [value for trial in trials if (value := figure(trial)) is not None]
        return mean(known).value if known else None

    def kept(key: str) -> tuple[str, str]:
        value = averaged(lambda trial: getattr(trial, key))
        before = [getattr(trial, key) for trial in figures.unpruned]
        if value is None or not any(before):
            return (show(round(value)),) * 2 if value is not None else ("–", "–")
        share = f"{fixed(100 * value / mean(before).value, 1)} %"
        return f"{show(round(value))} ({share})", share

    size, seconds = averaged(lambda trial: trial.file_bytes), averaged(lambda trial: trial.seconds)
    ends = show(round(size)) if size is not None else "–", fixed(seconds, 1) if seconds is not None else "–"
    start = method, gone, accuracy_text(trials)
    parameters, macs = kept("parameters"), kept("macs")
    return Row((*start, difference, parameters[0], macs[0], *ends), (*start, parameters[1], macs[1], *ends))


def _is_best(entry: Entry, entries: Sequence[Entry]) -> bool:
    rivals = [other for other in entries if other.ratio == entry.ratio and other.trials]
    if not entry.trials or len(rivals) < 2:
        return False
    highest = max(mean([trial.accuracy for trial in rival.trials]).value for rival in rivals)
    return mean([trial.accuracy for trial in entry.trials]).value == highest

"""What the scripts of this folder share: units of work that resume, a limit of minutes, and the JSON of what was found.

A unit is a recipe, run up to one of its stages; its stages never see the test images, which are looked at once, when
the unit is finished.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from compress.artifact import read_json, write_json
from compress.data import load_dataset
from compress.data.base import Dataset
from compress.errors import CompressError
from compress.pipeline import StageRecord, run_stages
from compress.pipeline.context import RunContext
from compress.pipeline.machine import machine_facts
from compress.recipe import Recipe, validate
from compress.train.checkpoint import load_checkpoint
from compress.train.evaluate import accuracy

FOLDER = Path(__file__).resolve().parent
UNFINISHED = 3  # exit code: time is up, start again to go on
_LAST = {"train": "trained", "sparsify": "sparse", "compact": "compact", "retrain": "retrained", "share": "shared"}
_EPOCH = re.compile(r"epoch (\d+)/")
Row = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """One recipe, run once.

    Attributes:
        name: of its run folder, unique within a script.
        setting: the line of the table that it belongs to; units of one setting differ in their seed alone.
        recipe: as a recipe file would say it.
        paper: what the paper reports for the setting.
        until: the last stage that is done.
        after: a unit whose finished stages are taken over, as far as the recipes agree.
        figures: what else is measured of the finished run folder.
        long_search: the cut is a search that takes minutes and cannot be interrupted.
    """

    name: str
    setting: str
    recipe: dict[str, Any]
    paper: str = ""
    until: str = "retrain"
    after: str | None = None
    figures: Callable[[Path], Row] | None = None
    long_search: bool = False

    @property
    def seed(self) -> int:
        return int(self.recipe["seed"])

    def parsed(self) -> Recipe:
        """Returns the recipe, validated."""
        return validate({"budget": None, "quantize": {"format": "none"}, **self.recipe}, Recipe, self.name)


@dataclass(frozen=True)
class Paper:
    """A script: what a paper did.

    Attributes:
        name: of the file with the results.
        title: authors, title, year, and which table.
        plan: (schedule, rows so far) → units; called again after each unit, as later ones may depend on earlier ones.
    """

    name: str
    title: str
    plan: Callable[[str, list[Row]], list[Unit]]


class OutOfTimeError(Exception):
    """The minutes are over; everything is saved."""


@dataclass
class Clock:
    """A reporter that stops a run where it can go on later: between stages, or between epochs.

    Args:
        minutes: until then all must have stopped; None: never.
        long_search: whether the stage `prune` needs most of the minutes.
    """

    minutes: float | None
    long_search: bool = False
    start: float = field(default_factory=time.monotonic)
    epoch_began: float | None = None
    epoch: str | None = None
    share: float = 0.0
    longest: float = 0.0

    def stage(self, name: str, status: str) -> None:
        """Stops before a stage for which there is no time."""
        if status != "running":
            return
        self.epoch = self.epoch_began = None
        reserve = 0.0
        if self.minutes is not None and name == "prune" and self.long_search:
            reserve = 0.7 * 60 * self.minutes
        self.stop_unless(reserve)
        say(f"  {name}")

    def progress(self, done: float, text: str) -> None:
        """Stops at the first step of an epoch for which there is no time; a training may be followed by another."""
        found = _EPOCH.match(text)
        if found is None:
            return
        same, self.share = found[1] == self.epoch and done >= self.share, done
        if same:
            return
        now = time.monotonic()
        if self.epoch_began is not None:
            self.longest = max(self.longest, now - self.epoch_began)
        self.epoch, self.epoch_began = found[1], now
        self.stop_unless(self.longest)

    def stop_unless(self, seconds: float) -> None:
        """Raises OutOfTimeError unless so many seconds are left."""
        if self.minutes is not None and time.monotonic() - self.start + seconds > 60 * self.minutes:
            raise OutOfTimeError


class BlindRun(RunContext):
    """A run whose stages never see the test images: what they call so are the validation images."""

    @cached_property
    def dataset(self) -> Dataset:
        """The data, without the test images."""
        return dataclasses.replace(self.whole, test=self.whole.validation)

    @cached_property
    def whole(self) -> Dataset:
        """The data."""
        return load_dataset(self.recipe.data, base=self.base, seed=self.recipe.seed)


def run_unit(unit: Unit, schedule: str, runs: Path, clock: Clock) -> Row:
    """Runs a unit from where it was stopped, and returns its row.

    Raises:
        OutOfTimeError: if the minutes are over before.
    """
    folder = runs / unit.name
    if unit.after is not None and not folder.exists() and (runs / unit.after).exists():
        shutil.copytree(runs / unit.after, folder)
    context = BlindRun(unit.parsed(), FOLDER, folder, unit.name, folder / "export", clock)
    records = run_stages(context, until=unit.until)
    checkpoint = folder / f"{_LAST[unit.until]}.safetensors"
    test = context.whole.test
    data = context.dataset
    return {
        "unit": unit.name,
        "setting": unit.setting,
        "paper": unit.paper,
        "schedule": schedule,
        "seed": unit.seed,
        "test_accuracy": round(accuracy(load_checkpoint(checkpoint).model, test), 4),
        **_figures(records),
        **(unit.figures(folder) if unit.figures is not None else {}),
        "data": {
            "source": data.name,
            "training_images": len(data.train),
            "validation_images": len(data.validation),
            "test_images": len(test),
        },
        "recipe": unit.recipe,
        "machine": machine_facts(),
    }


def _figures(records: Iterable[StageRecord]) -> Row:
    """Returns what the stages measured, as far as the tables need it."""
    found: Row = {"epochs": {}, "seconds": 0.0}
    for record in records:
        figures = record.figures
        if figures.get("history"):
            found["epochs"][record.name] = len(figures["history"])
        # A stage that was interrupted tells its last piece alone, but its epochs tell all.
        epochs = sum(epoch["seconds"] for epoch in figures.get("history", ()))
        found["seconds"] = round(found["seconds"] + max(record.seconds, epochs), 1)
        if record.name == "compact":
            found["validation_accuracy_before_retraining"] = figures["validation_accuracy"]
        elif figures.get("validation_accuracy") is not None:
            found["validation_accuracy"] = figures["validation_accuracy"]
        if record.name == "prune":
            before, after = figures["cost_before"], figures["cost_after"]
            found["parameters"], found["macs"] = after["parameters"], after["macs"]
            found["parameters_percent"] = round(100 * after["parameters"] / before["parameters"], 2)
            found["macs_percent"] = round(100 * after["macs"] / before["macs"], 2)
            found["kept"] = {group["group"]: [group["kept"], group["before"]] for group in figures["groups"]}
    return found


def main(paper: Paper) -> None:
    """Does what the command line asks for."""
    parser = argparse.ArgumentParser(description=paper.title)
    parser.add_argument("--schedule", choices=("short", "full"), default="short")
    parser.add_argument(
        "--minutes", type=float, help="stop at a checkpoint before so many minutes; start again to go on"
    )
    parser.add_argument("--only", help="units whose names match this regular expression")
    parser.add_argument("--runs", type=Path, default=Path("runs/papers"), help="where what is unfinished lies")
    parser.add_argument("--results", type=Path, default=FOLDER / "results", help="where the JSON goes")
    parser.add_argument("--list", action="store_true", help="show the units, and do nothing")
    given = parser.parse_args()
    path = given.results / f"{paper.name}-{given.schedule}.json"
    if given.list:
        done = {row["unit"] for row in read_rows(path)}
        for unit in paper.plan(given.schedule, read_rows(path)):
            say(f"{'done' if unit.name in done else '    '}  {unit.name}")
        return
    try:
        finished = work(paper, given.schedule, path, given.runs, given.minutes, given.only)
    except CompressError as error:
        sys.exit(f"error: {error}")
    if not finished:
        say("time is up: start again to go on")
        sys.exit(UNFINISHED)


def work(
    paper: Paper, schedule: str, path: Path, runs: Path, minutes: float | None = None, only: str | None = None
) -> bool:
    """Runs the units of a paper that are not in the results yet.

    Returns:
        Whether all are done; else the minutes are over.
    """
    start = time.monotonic()
    while True:
        rows = read_rows(path)
        done = {row["unit"] for row in rows}
        units = [u for u in paper.plan(schedule, rows) if u.name not in done and re.search(only or "", u.name)]
        if not units:
            return True
        unit = units[0]
        say(f"{unit.name} ({len(units)} to do)")
        try:
            row = run_unit(unit, schedule, runs / f"{paper.name}-{schedule}", Clock(minutes, unit.long_search, start))
        except OutOfTimeError:
            return False
        say(f"  test {row['test_accuracy']:.2f} %, {row['seconds']:.0f} s")
        with locked(runs):
            write_json(path, {"paper": paper.title, "schedule": schedule, "rows": [*read_rows(path), row]})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps others, which may run units of the same script, from writing their row meanwhile."""
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a file of results; none where there is no file."""
    return list(read_json(path)["rows"]) if path.is_file() else []


def best(rows: Iterable[Row], settings: Iterable[str], count: int) -> list[str]:
    """Returns the settings of best mean validation accuracy; fewer if not all have been measured."""
    wanted, means = list(settings), {}
    for setting in wanted:
        found = [row["validation_accuracy"] for row in rows if row["setting"] == setting]
        if not found:
            return []
        means[setting] = statistics.fmean(found)
    return sorted(wanted, key=lambda setting: -means[setting])[:count]


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, flush=True)

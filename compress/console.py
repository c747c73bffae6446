"""What a person at a terminal sees: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

_LOG_SECONDS = 30.0  # between two lines of progress in a log


# Elsewhere than on a terminal nothing limits a line; a table is as wide as what it holds.
_LOG_COLUMNS = 200


def results() -> Console:
    """Returns where results go, as wide as the terminal is."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _LOG_COLUMNS
    return console


def print_json(value: Any) -> None:
    """Prints a JSON value on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Prints a table on stdout; columns of numbers are right-aligned."""
    lines = [["" if cell is None else str(cell) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numbers = lines and all(line[index][:1].isdigit() for line in lines)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        table.add_row(*line)
    results().print(table)


def print_line(text: str) -> None:
    """Prints a line on stdout."""
    sys.stdout.write(text + "\n")


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows on a terminal that something is at work whose end cannot be foreseen."""
    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(text, total=None)
        yield


class TerminalReporter:
    """Shows how a run goes on: a line a finished stage, a bar for the one at work.

    Elsewhere than on a terminal, a line now and then stands for the bar.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:>9}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._name = ""
        self._told = 0.0

    def __enter__(self) -> TerminalReporter:
        # Elsewhere than on a terminal a bar is one empty line.
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def stage(self, name: str, status: str) -> None:
        """Starts or ends the bar of a stage."""
        if self._task is not None:
            elapsed = self._progress.tasks[0].elapsed or 0.0
            self._progress.remove_task(self._task)
            self._task = None
            self._console.print(f"{name:>9}  {status}, {elapsed:.1f} s")
        elif status == "reused":
            self._console.print(f"{name:>9}  unchanged")
        if status == "running":
            self._task = self._progress.add_task(name, total=1.0, text="")
            self._name, self._told = name, time.monotonic()

    def note(self, text: str) -> None:
        """Shows a line for good."""
        self._console.print(f"{self._name:>9}  {text}", soft_wrap=True)

    def progress(self, done: float, text: str) -> None:
        """Moves the bar."""
        if self._task is None:
            return
        self._progress.update(self._task, completed=min(1.0, done), text=text)
        if not self._console.is_terminal and time.monotonic() - self._told >= _LOG_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"{self._name:>9}  {done:.0%}, {text}")

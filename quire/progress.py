"""How far a long job is: a bar with an ETA on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import rich.console
import rich.progress

from quantize.progress import Progress

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def show_progress(stream: TextIO) -> Iterator[Progress]:
    """Show the progress of one job on `stream` for the duration of a `with` block."""
    if not stream.isatty():
        plain = PlainProgress(lambda line: print(line, file=stream, flush=True))
        yield plain
        plain.end()
        return
    columns = (
        rich.progress.TextColumn("{task.description:<24}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("ETA"),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("[dim]{task.fields[note]}"),
    )
    with rich.progress.Progress(*columns, console=rich.console.Console(file=stream)) as bars:
        yield BarProgress(bars)


class BarProgress:
    """A bar for each stage, the finished ones left standing."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._task: rich.progress.TaskID | None = None

    def stage(self, name: str, total: int) -> None:
        """Complete the bar there is and begin a new one."""
        if self._task is not None:
            task = self._bars.tasks[self._task]
            self._bars.update(self._task, completed=task.total, note="")
            self._bars.stop_task(self._task)
        self._task = self._bars.add_task(name, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar."""
        if self._task is not None:
            self._bars.update(self._task, advance=steps, note=note)


class PlainProgress:
    """A line when a stage begins and ends, and every `INTERVAL` seconds in between.

    Args:
        write: takes a line.
        clock: seconds, from any beginning.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._name = ""
        self._total = 0
        self._done = 0
        self._began = self._last = clock()

    def stage(self, name: str, total: int) -> None:
        """End the stage there is and begin a new one."""
        self.end()
        self._name, self._total, self._done = name, total, 0
        self._began = self._last = self._clock()
        self._write(f"{name}: {total} step{'s' if total != 1 else ''}")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count, and say so if nothing was said for a while."""
        self._done += steps
        now = self._clock()
        if now - self._last >= INTERVAL and 0 < self._done < self._total:
            self._last = now
            remaining = (now - self._began) / self._done * (self._total - self._done)
            self._write(
                f"{self._name}: {self._done}/{self._total}{f' ({note})' if note else ''}, ETA {_duration(remaining)}"
            )

    def end(self) -> None:
        """Say how long the stage took."""
        if self._name:
            self._write(f"{self._name}: done in {_duration(self._clock() - self._began)}")
            self._name = ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""How far a long job is: a bar with an ETA on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import rich.console
import rich.progress
from rich.table import Column

from quantize.progress import Progress

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""

NOTE_WIDTH = 24
"""Columns for what was just finished; it is cut before anything else is."""


@contextmanager
def show_progress(stream: TextIO) -> Iterator[Progress]:
    """Show the progress of one job on `stream` for the duration of a `with` block."""
    if not stream.isatty():
        plain = PlainProgress(lambda line: print(line, file=stream, flush=True))
        yield plain
        plain.end()
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=None),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("ETA {task.fields[eta]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("[dim]{task.fields[note]}", table_column=Column(no_wrap=True, max_width=NOTE_WIDTH)),
    )
    with rich.progress.Progress(*columns, console=rich.console.Console(file=stream), expand=True) as bars:
        yield BarProgress(bars)


class Estimate:
    """How long a stage still takes, by the pace of what was done in it.

    Args:
        total: units of work in the stage.
        done: units an earlier job has done.
        clock: seconds, from any beginning.
    """

    def __init__(self, total: int, done: int, clock: Callable[[], float]) -> None:
        self.total = total
        self.done = done
        self._clock = clock
        self._before = done
        self._began = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began."""
        return self._clock() - self._began

    @property
    def remaining(self) -> float | None:
        """Seconds it will still take; None as long as nothing is done."""
        worked = self.done - self._before
        return None if worked <= 0 else self.elapsed / worked * (self.total - self.done)


class BarProgress:
    """A bar for each stage, the finished ones left standing."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._task: rich.progress.TaskID | None = None
        self._estimate = Estimate(0, 0, time.monotonic)

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Complete the bar there is and begin a new one."""
        if self._task is not None:
            task = self._bars.tasks[self._task]
            self._bars.update(self._task, completed=task.total, note="", eta="0:00")
            self._bars.stop_task(self._task)
        self._estimate = Estimate(total, done, time.monotonic)
        self._task = self._bars.add_task(name, total=total, completed=done, note="", eta="-:--")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar."""
        self._estimate.done += steps
        remaining = self._estimate.remaining
        if self._task is not None and remaining is not None:
            self._bars.update(self._task, advance=steps, note=note, eta=_duration(remaining))


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
        self._estimate = Estimate(0, 0, clock)
        self._last = clock()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """End the stage there is and begin a new one."""
        self.end()
        self._name = name
        self._estimate = Estimate(total, done, self._clock)
        self._last = self._clock()
        self._write(f"{name}: {f'going on at {done / total:.0%}' if done else 'begins'}")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count, and say so if nothing was said for a while."""
        estimate = self._estimate
        estimate.done += steps
        now, remaining = self._clock(), estimate.remaining
        if now - self._last >= INTERVAL and remaining is not None and estimate.done < estimate.total:
            self._last = now
            share = estimate.done / estimate.total
            self._write(f"{self._name}: {share:.0%}, ETA {_duration(remaining)}{f' ({note})' if note else ''}")

    def end(self) -> None:
        """Say how long the stage took."""
        if self._name:
            self._write(f"{self._name}: done in {_duration(self._estimate.elapsed)}")
            self._name = ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

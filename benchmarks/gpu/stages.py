"""A part of the run on a GPU: a process of its own with a time limit, and how it went."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

LONGEST_OUTPUT = 4000
PATIENCE = 5.0
"""Seconds for a process that was killed to be gone."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run.

    Attributes:
        name: for people.
        command: what is started; a module of this package writes its rows to the file named last.
        seconds: it may take.
        gives_rows: whether it writes a file of rows.
        needs: a program that not every machine has; without it the stage is left out.
        environment: variables it has besides those of this process.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    gives_rows: bool = False
    needs: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage went.

    Attributes:
        stage: its name.
        passed: whether it ended well.
        seconds: it took.
        said: the end of what it printed.
        rows: what it measured or checked.
        begun: whether it was started at all.
    """

    stage: str
    passed: bool
    seconds: float
    said: str
    rows: list[dict[str, object]]
    begun: bool = True

    @property
    def verdict(self) -> str:
        """For people."""
        if not self.begun:
            return "left out"
        return "passed" if self.passed else "FAILED"


def run_stages(wanted: Sequence[Stage], minutes: float, folder: Path) -> Iterator[Outcome]:
    """Run stages one after the other, whatever becomes of each, until the time is over; tell of each as it ends.

    Args:
        wanted: the stages.
        minutes: for all of them.
        folder: for files in between.
    """
    deadline = time.monotonic() + 60 * minutes
    for stage in wanted:
        left = deadline - time.monotonic()
        yield run_stage(replace(stage, seconds=max(min(stage.seconds, left), 0.0)), folder)


def run_stage(stage: Stage, folder: Path) -> Outcome:
    """Run one stage to its end, or until its time is over; then it ends with all that it has started."""
    if not stage.seconds:
        return _left_out(stage, "there was no time left for it")
    if stage.needs and shutil.which(stage.needs) is None:
        return _left_out(stage, f"{stage.needs} is not installed here")
    file, log = folder / "rows.json", folder / "said.txt"
    file.unlink(missing_ok=True)
    command = [*stage.command, "--json", str(file)] if stage.gives_rows else list(stage.command)
    started = time.monotonic()
    passed, complaint = _run(command, stage.seconds, log, {**os.environ, **stage.environment})
    said = log.read_text(errors="replace") + complaint
    rows = json.loads(file.read_text()) if file.is_file() else []
    return Outcome(stage.name, passed, round(time.monotonic() - started, 1), said[-LONGEST_OUTPUT:], rows)


def _left_out(stage: Stage, reason: str) -> Outcome:
    return Outcome(stage.name, passed=False, seconds=0.0, said=reason, rows=[], begun=False)


def _run(command: Sequence[str], seconds: float, log: Path, environment: Mapping[str, str]) -> tuple[bool, str]:
    """Whether a command ended well, and what is to be said besides what it wrote to the file."""
    with log.open("wb") as output:
        try:
            # a session of its own, so that all of it can be ended; a file, since a pipe would be waited for until
            # the last one that holds it has ended
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )
        except OSError as missing:
            return False, str(missing)
        try:
            return process.wait(seconds) == 0, ""
        except subprocess.TimeoutExpired:
            return False, f"\nnot done after {seconds:.0f} s"
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of a process and of those it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:  # it hangs in the driver: nothing ends that
        return

"""What a benchmark says: rows of measured values, each beside the value aimed at, and the machine they are from."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import machine


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value.

    Attributes:
        name: what was measured.
        value: the best of all repetitions.
        unit: of the value.
        target: what is aimed at; None for values that only explain others.
        at_least: whether more is better.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def __str__(self) -> str:
        line = f"{self.name:56s} {self.value:10.4g} {self.unit:10s}"
        if self.target is None:
            return line.rstrip()
        return f"{line} {'≥' if self.at_least else '≤'} {self.target:g}  {'met' if self.met else 'MISSED'}"


def add_report_option(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`."""
    parser.add_argument("--json", type=Path, help="also write machine and rows to this file")


def command(words: Sequence[str]) -> str:
    """A benchmark's command line as others would give it: of files and folders the name, not where they lie here.

    Args:
        words: as in `sys.argv`.
    """
    return " ".join(["python -m", f"benchmarks.{Path(words[0]).stem}", *map(_without_folder, words[1:])])


def _without_folder(word: str) -> str:
    option, equals, value = word.rpartition("=")
    path = Path(value)
    here = path.is_absolute() or path.exists() or (path.parent.exists() and path.parent != Path())
    return f"{option}{equals}{path.name}" if here else word


def report(benchmark: str, rows: list[Row], file: Path | None) -> None:
    """Print the rows, and write them to `file` with the date and the machine."""
    described = machine()
    print("  ".join(f"{name} {value}" for name, value in described.items()))
    for row in rows:
        print(row)
    if file is not None:
        content = {
            "benchmark": benchmark,
            "command": command(sys.argv),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": described,
            "rows": [{**asdict(row), "met": row.met} for row in rows],
        }
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

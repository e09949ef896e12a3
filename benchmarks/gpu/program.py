"""A stage as a program: its arguments, the card it runs on, what it hands over and how it ends."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.card import Card, CudaCard
from benchmarks.report import Row


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a stage is asked for.

    Attributes:
        small: small sizes, for compute-sanitizer and the tests.
        subject: one of the program's subjects; empty where it has none.
    """

    small: bool
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """`python -m benchmarks.gpu.NAME [SUBJECT] [--small] [--json FILE]`.

    Attributes:
        about: what it is for.
        rows: what it finds on a card, row by row.
        checks: whether a target that is missed is a failure, and not what the run is there to find out.
        subjects: of which one is named; none if there is nothing to choose.
    """

    about: str
    rows: Callable[[Card, Wanted], Iterable[Row]]
    checks: bool
    subjects: Sequence[str] = ()

    def main(self, arguments: Sequence[str] | None = None, open_card: Callable[[], Card] = CudaCard) -> int:
        """The command.

        Args:
            arguments: None for those of the process.
            open_card: gives the card.

        Returns:
            1 if a check has failed.
        """
        parser = argparse.ArgumentParser(description=self.about)
        if self.subjects:
            parser.add_argument("subject", choices=self.subjects)
        parser.add_argument("--small", action="store_true", help="small sizes, for compute-sanitizer and the tests")
        parser.add_argument("--json", type=Path, help="also write the rows to this file")
        options = parser.parse_args(arguments)
        wanted = Wanted(options.small, options.subject if self.subjects else "")
        missed = hand_over(self.rows(open_card(), wanted), options.json)
        return 1 if missed and self.checks else 0


def hand_over(rows: Iterable[Row], file: Path | None) -> int:
    """Print rows, and write those there are to `file`, as they come; how many miss their targets."""
    found: list[dict[str, object]] = []
    for row in rows:
        print(row, flush=True)
        found.append({**asdict(row), "met": row.met})
        if file is not None:
            unfinished = file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(found))
            unfinished.replace(file)  # a stage may be ended at any moment, and its file is read then
    return sum(each["met"] is False for each in found)

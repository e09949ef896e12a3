"""How a stage hands over its rows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks.report import Row


def rows_option(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`."""
    parser.add_argument("--json", type=Path, help="also write the rows to this file")


def hand_over(rows: Iterable[Row], file: Path | None) -> int:
    """Print rows, and write those there are to `file`, as they come; return 1 if one misses its target."""
    found: list[dict[str, object]] = []
    for row in rows:
        print(row, flush=True)
        found.append({**asdict(row), "met": row.met})
        if file is not None:
            file.write_text(json.dumps(found))
    return 1 if any(each["met"] is False for each in found) else 0

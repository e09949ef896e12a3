"""How a stage hands over its rows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.report import Row


def rows_option(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`."""
    parser.add_argument("--json", type=Path, help="also write the rows to this file")


def hand_over(rows: Sequence[Row], file: Path | None) -> int:
    """Print the rows, write them to `file`, and return 1 if one misses its target."""
    for row in rows:
        print(row)
    if file is not None:
        file.write_text(json.dumps([{**asdict(row), "met": row.met} for row in rows]))
    return 1 if any(row.met is False for row in rows) else 0

"""The shipped demo model answers as well as the float16 model it was made from."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from demo.evaluate import examine
from tests.end_to_end.conftest import Server

README = Path(__file__).resolve().parents[2] / "demo" / "README.md"
POINTS = 2.0


def recorded_scores() -> dict[str, float]:
    """Percent right of the float16 model, by measure, from the table in demo/README.md."""
    rows = re.findall(r"^\| (\w+: [^|]+?) \| \d+ of \d+, ([\d.]+) % \|", README.read_text(encoding="utf-8"), re.M)
    return {measure: float(percent) for measure, percent in rows}


@pytest.mark.slow
def test_scores_stay_within_two_points_of_float16(demo_server: Server) -> None:
    expected = recorded_scores()
    scores = asyncio.run(examine(demo_server.url))
    assert set(scores) == set(expected)
    worse = {
        measure: (scores[measure].percent, percent)
        for measure, percent in expected.items()
        if scores[measure].percent < percent - POINTS
    }
    assert not worse

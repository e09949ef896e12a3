"""What the engine process takes, seen from outside: loading little more than it keeps, requests nothing more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.bench_memory import MIB, measure
from benchmarks.random_exl2_model import RandomModel, write_random_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

SMALL = RandomModel(hidden=256, layers=2, intermediate=512, heads=4, kv_heads=2)
"""Small beside its vocabulary, so that what sampling takes would show."""


def test_loading_a_billion_parameters_takes_little_more_than_weights_and_cache(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", RandomModel())

    run = measure(tmp_path / "model", threads=2)

    assert run.weights > 600 * MIB
    assert run.ratio <= 1.15


def test_the_hardest_requests_leave_memory_as_it_was(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model", SMALL)

    run = measure(tmp_path / "model", threads=1, rounds=2)

    first, second = run.held
    assert first - run.loaded < 16 * MIB
    assert second - first < 4 * MIB

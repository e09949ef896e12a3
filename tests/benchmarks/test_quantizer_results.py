"""Keeping what the quantizer reaches, comparing it with the yardstick, and the tables of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_quantizer import place
from benchmarks.quantizer_results import YARDSTICK, Comparison, Result, add, compared, load, points, table


def _result(variant: str, bpw: float, kl: float, *, seed: int = 0, requested: float | None = None) -> Result:
    return Result(
        variant,
        requested or bpw,
        seed,
        rows=100,
        windows=64,
        least_bpw=2.0,
        bpw=bpw,
        kl=kl,
        kl_standard_error=kl / 10,
        kl_p99=10 * kl,
        top1=0.9,
        perplexity=30.0,
        measure_seconds=10.0,
        quantize_seconds=20.0,
    )


def _comparison(results: list[Result], variant: str, size: float) -> Comparison | None:
    known = points(results)
    point = next(each for each in known if (each.variant, each.bpw_requested) == (variant, size))
    return compared(point, known)


def test_results_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "new" / "results.json"
    assert load(file) == []
    results = [_result("default", 3.0, 0.25), Result(YARDSTICK, 2.5, 1, rows=100, windows=64, least_bpw=2.8)]
    for each in results:
        add(file, each)
    assert load(file) == results
    assert [each.key for each in load(file)] == [("default", 3.0, 0, 100, 64), (YARDSTICK, 2.5, 1, 100, 64)]


def test_a_variant_is_compared_with_the_yardstick_of_its_size_and_seeds() -> None:
    results = [_result(YARDSTICK, 3.0, 0.4), _result(YARDSTICK, 3.0, 0.2, seed=1)]
    results += [_result("default", 3.0, 0.1), _result("default", 3.0, 0.14, seed=1)]
    found = _comparison(results, "default", 3.0)
    assert found is not None
    assert found.ratio == pytest.approx(0.4)
    assert found.worst == pytest.approx(0.7)
    assert found.same_size is None
    assert _comparison([*results, _result("default", 3.0, 9.0, seed=2)], "default", 3.0) == found
    assert _comparison([*results, _result("default", 4.0, 0.1)], "default", 4.0) is None


def test_a_yardstick_that_takes_fewer_bits_is_compared_at_its_own_size() -> None:
    ours = [_result("default", 3.0, 0.16), _result("default", 4.0, 0.04)]
    found = _comparison([*ours, _result(YARDSTICK, 3.5, 0.1, requested=4.0)], "default", 4.0)
    assert found is not None
    assert found.ratio == pytest.approx(0.4)
    assert found.same_size == pytest.approx(0.8)


def test_the_table_has_means_spreads_and_what_cannot_be_met() -> None:
    results = [_result(YARDSTICK, 3.0, 0.4), _result("default", 3.0, 0.101), _result("default", 3.0, 0.099, seed=1)]
    results += [Result(YARDSTICK, 2.5, 0, rows=100, windows=64, least_bpw=2.79)]
    lines = table(results).splitlines()
    assert lines[2].startswith("| 2.5 | exllamav2 | takes at least 2.790 |")
    assert lines[3] == "| 3.0 | exllamav2 | 3.000 | 1 | 0.400 | 4 | 90.0 % | 1 |  |  | 1.5 |"
    assert lines[4] == "| 3.0 | default | 3.000 | 2 | 0.100 ± 0.001 | 1 | 90.0 % | 0.25 | 0.25 |  | 1.5 |"


def test_seeds_take_rows_far_from_each_other() -> None:
    assert [place(seed) for seed in range(7)] == [0, 1, 0.5, 0.25, 0.75, 0.125, 0.625]

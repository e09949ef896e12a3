"""The shares of a job that its progress goes by."""

from __future__ import annotations

from quantize.work import estimate_work, forward_work, matrix_work


def test_work_grows_with_everything_that_takes_time() -> None:
    base = matrix_work(256, 512, 10_000)
    assert matrix_work(512, 512, 10_000) > 1.9 * base
    assert base < matrix_work(256, 1024, 10_000) < 2 * base
    assert matrix_work(256, 512, 100_000) > base
    assert estimate_work(256, 256, 100) < estimate_work(256, 512, 100)
    assert matrix_work(1, 1, 1) == estimate_work(1, 1, 1) == 1
    assert forward_work(2_000_000, 10_000, 3) == 9

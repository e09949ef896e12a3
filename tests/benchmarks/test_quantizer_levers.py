from __future__ import annotations

from benchmarks.quantizer_levers import MEANINGS, levers
from benchmarks.quantizer_results import Result
from benchmarks.quantizer_variants import VARIANTS


def _result(variant: str, bpw: float, seed: int, kl: float | None) -> Result:
    reached = None if kl is None else bpw
    return Result(variant, bpw, seed, rows=1, windows=1, least_bpw=2.0, bpw=reached, kl=kl)


def test_each_lever_is_held_against_the_default() -> None:
    results = [
        _result("default", 3.0, 0, 0.10),
        _result("default", 3.0, 1, 0.12),
        _result("default", 4.0, 0, 0.02),
        _result("default-drift", 3.0, 0, 0.22),
        _result("default-drift", 4.0, 0, 0.03),
        _result("default-fresh", 4.0, 0, 0.03),  # not at all sizes
    ]

    assert levers(results).splitlines() == [
        "| recipe | KL at 3.0 | KL at 4.0 | over default at 3.0 | at 4.0 |",
        "|---|--:|--:|--:|--:|",
        "| **default** | 0.110 ± 0.014 | 0.0200 | 1.00 | 1.00 |",
        "| default, targets not corrected | 0.220 | 0.0300 | 2.00 | 1.50 |",
    ]


def test_every_lever_is_a_variant() -> None:
    assert MEANINGS.keys() <= VARIANTS.keys()

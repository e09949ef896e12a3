"""Scale searches: what they choose is storable, and the freer one is better where it claims to be."""

from __future__ import annotations

import pytest
import torch

from engine.ops.exl2 import scales_from_codes
from quantize.exl2.scales import (
    CommonFactorSearch,
    FreeCodeSearch,
    GroupScales,
    LevelRounding,
    ScaleSearch,
    decode,
    round_to_codes,
)

SEARCHES = [CommonFactorSearch(), FreeCodeSearch()]


def _rows(seed: int = 0, rows: int = 64, columns: int = 96) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-2, 0, columns)[torch.randperm(columns, generator=generator)]
    return torch.randn(rows, columns, generator=generator) * spread


def _error(rows: torch.Tensor, scales: GroupScales, bits: int, importance: torch.Tensor) -> float:
    decoded = decode(round_to_codes(rows, scales.steps, bits), scales.steps, bits)
    return float((importance @ (decoded - rows).square()).sum())


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_steps_are_what_a_reader_computes(search: ScaleSearch, bits: int) -> None:
    scales = search(_rows(), bits, torch.ones(64))
    assert scales.codes.dtype == torch.uint8
    assert int(scales.codes.max()) <= 15
    assert scales.scale_max.dtype == torch.float16
    assert torch.equal(scales.steps, scales_from_codes(scales.codes[None], scales.scale_max[None])[0].float())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_free_codes_lose_less_of_the_weighted_square(bits: int, seed: int) -> None:
    rows = _rows(seed)
    importance = torch.logspace(1, -1, 64)
    free = _error(rows, FreeCodeSearch()(rows, bits, importance), bits, importance)
    common = _error(rows, CommonFactorSearch()(rows, bits, importance), bits, importance)
    assert free < common


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_free_codes_come_close_to_an_exhaustive_search(bits: int) -> None:
    rows = _rows(rows=32, columns=32)
    importance = torch.ones(32)
    found = _error(rows, FreeCodeSearch()(rows, bits, importance), bits, importance)
    largest = rows.abs().max() / (((1 << bits) - 1) / 2)
    best = float("inf")
    for factor in torch.linspace(0.5, 1.2, 71):
        scale_max = (largest * factor).half()
        per_code = []
        for code in range(16):
            steps = scales_from_codes(torch.full((1, 32), code, dtype=torch.uint8), scale_max[None])[0].float()
            decoded = decode(round_to_codes(rows, steps, bits), steps, bits)
            per_code.append((decoded - rows).square().sum(0))
        best = min(best, float(torch.stack(per_code).min(0).values.sum()))
    assert found <= 1.06 * best


@pytest.mark.parametrize("search", SEARCHES)
def test_zero_columns_and_underflow_decode_to_zero(search: ScaleSearch) -> None:
    rows = _rows()
    rows[:, 3] = 0
    scales = search(rows, 3, torch.ones(64))
    decoded = decode(round_to_codes(rows, scales.steps, 3), scales.steps, 3)
    assert bool((decoded[:, 3] == 0).all())
    assert bool(torch.isfinite(decoded).all())
    tiny = search(torch.zeros(64, 32), 3, torch.ones(64))
    codes = round_to_codes(torch.zeros(64, 32), tiny.steps, 3)
    assert bool((codes == 4).all())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_rounding_in_place_gives_the_same_codes_and_weights(bits: int) -> None:
    rows = _rows() * 100  # so that some are clamped
    rows[5] = -1e-9  # a level of minus zero
    steps = torch.logspace(-4, 1, 96).half().float()
    steps[7] = 0
    rounding = LevelRounding(steps, bits)
    levels, decoded = torch.empty(2, 96)
    for row in rows:
        rounding(row, levels, decoded)
        codes = round_to_codes(row, steps, bits)
        assert torch.equal(levels + (1 << (bits - 1)), codes)
        assert torch.equal(decoded, decode(codes, steps, bits))

"""Rotary tables against the formulas, and llama3 scaling against its definition by wavelength."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.model.rope import LinearScaling, Llama3Scaling, RopeParameters, rotary_tables

CPU = torch.device("cpu")


def test_angles_are_position_times_inverse_frequency() -> None:
    cos, sin = rotary_tables(RopeParameters(100.0), head_dim=4, positions=3, device=CPU)
    angles = torch.tensor([[0.0, 0.0], [1.0, 0.1], [2.0, 0.2]])
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())
    assert cos.dtype == sin.dtype == torch.float32


def test_linear_scaling_divides_positions() -> None:
    plain = rotary_tables(RopeParameters(10_000.0), 8, 10, CPU)
    stretched = rotary_tables(RopeParameters(10_000.0, LinearScaling(4.0)), 8, 37, CPU)
    for table, long_table in zip(plain, stretched, strict=True):
        torch.testing.assert_close(long_table[::4], table)


@given(
    wavelength=st.floats(0.1, 1e6),
    factor=st.floats(1.0, 32.0),
    low=st.floats(0.5, 2.0),
    span=st.floats(0.5, 6.0),
    context=st.integers(16, 10_000),
)
def test_llama3_keeps_short_waves_stretches_long_ones_and_blends_between(
    wavelength: float, factor: float, low: float, span: float, context: int
) -> None:
    high = low + span
    frequency = torch.tensor([2 * math.pi / wavelength], dtype=torch.float64)
    scaled = Llama3Scaling(factor, low, high, context).apply(frequency)
    if wavelength < context / high:
        expected = frequency
    elif wavelength > context / low:
        expected = frequency / factor
    else:
        share = (context / wavelength - low) / (high - low)
        expected = (1 - share) * frequency / factor + share * frequency
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("scaling", [None, LinearScaling(2.0), Llama3Scaling(8.0, 1.0, 4.0, 64)])
def test_tables_are_a_prefix_of_longer_ones(scaling: LinearScaling | Llama3Scaling | None) -> None:
    rope = RopeParameters(1e4, scaling)
    short, long = (rotary_tables(rope, 16, positions, CPU) for positions in (20, 50))
    assert torch.equal(short[0], long[0][:20])
    assert torch.equal(short[1], long[1][:20])

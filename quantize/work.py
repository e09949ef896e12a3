"""How much work the steps of a job are, so that its progress and the time it still takes can be told."""

from __future__ import annotations

UNIT = 1_000_000
"""Multiply-adds in a unit of work."""

PASSES = 6
"""Forward passes through a matrix, of the original rows and the quantized ones, as far as calibration needs them."""

SEARCH = 600
"""What the search for the scales of one weight costs, in multiply-adds of a matrix product that takes as long."""


def matrix_work(in_features: int, out_features: int, tokens: int) -> int:
    """Units of work in quantizing one matrix for so many calibration tokens; at least 1."""
    weights = in_features * out_features
    moments = 2 * tokens * in_features * (in_features + out_features)
    solving = weights * (2 * in_features + SEARCH) + 3 * in_features**3
    return max(1, (PASSES * tokens * weights + moments + solving) // UNIT)


def forward_work(weights: int, tokens: int) -> int:
    """Units of work in passing so many tokens through so many weights."""
    return weights * tokens // UNIT

"""How much work the steps of a job are, so that its progress and the time it still takes can be told.

The figures are those of the default recipe: `benchmarks/bench_quantizer_cost.py`, and jobs on a small model. All
layers of a model are alike, so they matter only within a layer, between early and late ones, and for the head.
"""

from __future__ import annotations

UNIT = 1_000_000
"""Multiply-adds in a unit of work."""

PASSES = 2
"""How often all calibration rows pass through a matrix: those of the original model and those of the quantized one."""

SOLVING = 16
"""Products of a matrix with its inputs' second moments that GPTQ, refinement and error take, all together."""

SEARCH = 60_000
"""What choosing scales and codes costs for each weight, in multiply-adds of a matrix product that takes as long."""


ESTIMATE = 190_000
"""What estimating the errors of all widths costs for each weight looked at, likewise."""

FEATURE = 130
"""What attention, norms and copies cost for each token and feature of a pass, likewise."""

BACKWARD_PASSES = 6
"""What carrying gradients back through a layer takes, in forward passes: recomputing, gradients, whitened inputs."""

CALIBRATION_FEATURE = 3600
"""The same for all passes of calibration, and reading and writing the residual streams."""


def matrix_work(in_features: int, out_features: int, tokens: int) -> int:
    """Units of work in quantizing one matrix for so many calibration tokens; at least 1."""
    weights = in_features * out_features
    rows = tokens * (PASSES * weights + in_features**2 + CALIBRATION_FEATURE * in_features)
    solving = weights * (SOLVING * in_features + SEARCH) + 2 * in_features**3
    return max(1, (rows + solving) // UNIT)


def estimate_work(in_features: int, columns: int, tokens: int) -> int:
    """Units of work in estimating the errors of a matrix, of which so many columns are looked at; at least 1."""
    rows = tokens * (in_features**2 + FEATURE * in_features)
    return max(1, (rows + ESTIMATE * in_features * columns + 2 * in_features**3) // UNIT)


def forward_work(weights: int, features: int, tokens: int) -> int:
    """Units of work in passing so many tokens through matrices of so many weights and inputs together."""
    return tokens * (weights + FEATURE * features) // UNIT

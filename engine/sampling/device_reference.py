"""What the device's draw is defined to give, in numpy: weights as it computes them, and exact sums of them.

The rules are those of `engine/sampling/draw.py`; only the numbers are others. A weight is exp((logit - largest) /
temperature) in float32, each operation rounded by itself, and cut to a multiple of 2^-44. In these units weights are
whole numbers, so that every sum and every comparison is exact and tokens do not depend on the order of additions.
Tokens less likely than 2^-44 of the likeliest are never drawn.

Tests hold the kernels to this, and this to the host's draw.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.sampling.device_layout import as_fraction, as_temperature
from engine.types import SamplingParams

Float32Array = npt.NDArray[np.float32]

UNIT_EXPONENT = -44
_LEAST_EXPONENT_ARGUMENT = np.float32(-31)
_PER_TURN = np.float32(1.44269504)
_LN2 = (np.float32(0.693359375), np.float32(-2.12194440e-4))
_TAYLOR = tuple(np.float32(1) / np.float32(factorial) for factorial in (720, 120, 24, 6, 2))


def weights(logits: Float32Array, temperature: float) -> Float32Array:
    """Weight of each token, at most 1, in multiples of 2^-44.

    Args:
        logits: float32 [V] after all processors; the largest is finite.
        temperature: above 0.
    """
    with np.errstate(over="ignore"):
        x = (logits - logits.max()) / np.float32(as_temperature(temperature))
    found = np.zeros_like(logits)
    likely = x >= _LEAST_EXPONENT_ARGUMENT
    found[likely] = _exp(x[likely])
    cut: Float32Array = np.ldexp(np.floor(np.ldexp(found.astype(np.float64), -UNIT_EXPONENT)), UNIT_EXPONENT).astype(
        np.float32
    )
    return cut


def draw_token(logits: Float32Array, params: SamplingParams, uniform: float) -> int:
    """Draw a token at a temperature above 0, as `engine.sampling.draw.draw_token` does."""
    found = weights(logits, params.temperature)
    tokens = np.flatnonzero(found)
    tokens = tokens[np.argsort(-found[tokens], kind="stable")]
    running = np.cumsum(np.ldexp(found[tokens].astype(np.float64), -UNIT_EXPONENT).astype(np.uint64))
    kept = kept_mass(found[tokens], running, params)
    target = (int(uniform * 2**64) * kept >> 64) + 1
    return int(tokens[np.searchsorted(running, np.uint64(target))])


def kept_mass(ordered: Float32Array, running: npt.NDArray[np.uint64], params: SamplingParams) -> int:
    """Mass of the tokens that the cuts keep.

    Args:
        ordered: weights above 0, falling.
        running: their running sums in units of 2^-44.
        params: the cuts.
    """
    kept = int(running[-1])
    if 0 < params.top_k < len(running):
        kept = int(running[params.top_k - 1])
    if params.top_p < 1:
        needed = -(-as_fraction(params.top_p) * kept >> 64)  # rounded up
        kept = int(running[np.searchsorted(running, np.uint64(needed))])
    if params.min_p > 0:
        kept = min(kept, int(running[np.count_nonzero(ordered >= np.float32(params.min_p)) - 1]))
    return kept


def _exp(x: Float32Array) -> Float32Array:
    """exp of numbers from -31 to 0."""
    turns = np.rint(x * _PER_TURN)
    r = (x - turns * _LN2[0]) - turns * _LN2[1]
    y = _TAYLOR[0]
    for coefficient in _TAYLOR[1:]:
        y = y * r + coefficient
    y = (y * r) * r + r + np.float32(1)
    result: Float32Array = np.minimum(np.ldexp(y, turns.astype(np.int32)), np.float32(1))
    return result

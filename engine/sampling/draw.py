"""Drawing one token from one row: temperature, top-k, top-p, min-p, and the inverse of the distribution function.

Tokens are ordered by falling probability, the lower id first among equals. Each cut keeps a beginning of that order:

* top-k keeps k tokens (exactly k: of equals at the edge the lower ids stay);
* top-p keeps the fewest tokens whose share of what top-k left reaches p;
* min-p keeps tokens at least that fraction as likely as the likeliest one.

So applying all of them is taking the shortest beginning, and a uniform number u picks the first kept token at which the
running sum of probabilities exceeds u times the sum of all kept ones. One row is handled at a time with numpy, whose
result for a row cannot depend on other rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.types import SamplingParams

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

_LEAST_TEMPERATURE = 1e-30
"""Colder is the same in float32, and would divide by zero."""

_FLOORS = (2e-2, 1e-3, 5e-5, 1e-6, 0.0)
"""Sorting the whole vocabulary is slow and rarely needed: tokens this likely, relative to the likeliest, are looked at
first, and further ones only if the draw falls among them. The result is the same as with a full sort."""


def draw_token(logits: Float32Array, params: SamplingParams, uniform: float) -> int:
    """Draw a token at a temperature above 0.

    Args:
        logits: float32 [V] after all processors; the largest is finite.
        params: temperature, top_k, top_p and min_p are used.
        uniform: random number in [0, 1).

    Returns:
        The token id; never one whose weight underflows to 0.
    """
    temperature = np.float32(max(params.temperature, _LEAST_TEMPERATURE))
    weights = np.exp((logits - logits.max()) / temperature)  # 1 for the likeliest token
    total = float(weights.sum(dtype=np.float64))
    for floor in _FLOORS:
        candidates = np.flatnonzero(weights >= floor) if floor else np.flatnonzero(weights)
        candidates = candidates[np.argsort(-weights[candidates], kind="stable")]
        chosen = _choose(weights[candidates], total, params, uniform, complete=floor == 0)
        if chosen < len(candidates):
            return int(candidates[chosen])
    return int(candidates[-1])  # rounding put u times the total beyond the running sum


def _choose(ordered: Float32Array, total: float, params: SamplingParams, uniform: float, *, complete: bool) -> int:
    """Index of the drawn token among the candidates, or their number if further candidates are needed to tell.

    Args:
        ordered: weights of the candidates, falling.
        total: sum of the weights of the whole vocabulary.
        params: the cuts.
        uniform: random number in [0, 1).
        complete: whether every token of positive weight is a candidate.
    """
    count = len(ordered)
    running = np.cumsum(ordered, dtype=np.float64)
    if params.top_k <= 0 and params.top_p == 1 and params.min_p == 0:
        return int(np.searchsorted(running, uniform * total, side="right"))
    if params.top_k > count and not complete:
        return count
    kept = _kept(ordered, running, total, params)
    if kept == count and not complete:
        return count
    return min(int(np.searchsorted(running[:kept], uniform * running[kept - 1], side="right")), kept - 1)


def _kept(ordered: Float32Array, running: Float64Array, total: float, params: SamplingParams) -> int:
    """How many of the candidates the cuts keep, at least one."""
    kept, mass = len(ordered), total
    if params.top_k > 0:
        kept = min(kept, params.top_k)
        mass = float(running[kept - 1])
    if params.top_p < 1:
        kept = min(kept, int(np.searchsorted(running, params.top_p * mass)) + 1)
    if params.min_p > 0:
        kept = min(kept, int(np.count_nonzero(ordered >= params.min_p)))
    return kept

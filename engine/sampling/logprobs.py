"""Log-probabilities of a row: the natural log-softmax of the model's own logits.

They are taken before bias, penalties, temperature and cuts, as the OpenAI API and vLLM report them, so they say what
the model thinks and not how it was asked to choose.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FLOOR = -9999.0
"""Lowest log-probability reported; minus infinity has no place in JSON."""


def row_logprobs(
    logits: npt.NDArray[np.float32], token_id: int, count: int
) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Log-probability of a token and of the likeliest tokens.

    Args:
        logits: float32 [V], as the model gave them; the largest is finite.
        token_id: the chosen token.
        count: how many of the likeliest tokens to report.

    Returns:
        The token's log-probability, and (id, log-probability) of the `count` likeliest tokens, likeliest first, the
        lower id first among equals. Both are computed in float64, and are the same number for the same token.
    """
    wide = logits.astype(np.float64)
    largest = float(wide.max())
    norm = largest + math.log(float(np.exp(wide - largest).sum()))
    top = tuple((each, _logprob(wide, each, norm)) for each in _likeliest(logits, count))
    return _logprob(wide, token_id, norm), tuple(sorted(top, key=lambda entry: (-entry[1], entry[0])))


def _logprob(logits: npt.NDArray[np.float64], token_id: int, norm: float) -> float:
    return max(float(logits[token_id]) - norm, FLOOR)


def _likeliest(logits: npt.NDArray[np.float32], count: int) -> list[int]:
    """Ids of the `count` largest logits; among equals at the edge the lower ids are taken."""
    count = min(count, len(logits))
    if count == 0:
        return []
    least = np.partition(logits, len(logits) - count)[len(logits) - count]
    ids = np.flatnonzero(logits >= least)
    order = np.argsort(-logits[ids], kind="stable")
    return [int(each) for each in ids[order[:count]]]

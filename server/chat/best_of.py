"""Chooses, of more choices than were asked for, those that the model itself finds likeliest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from server.chat.pieces import WholeChoice


def best_of(choices: Sequence[WholeChoice], candidates: int, keep: int) -> list[WholeChoice]:
    """The likeliest choices of each prompt, the best one first; equals stay in their order.

    Args:
        choices: of all prompts, prompt by prompt, with the log-probabilities of their tokens.
        candidates: choices per prompt.
        keep: how many of these are wanted.
    """
    kept: list[WholeChoice] = []
    for first in range(0, len(choices), candidates):
        kept += sorted(choices[first : first + candidates], key=_likelihood, reverse=True)[:keep]
    return kept


def _likelihood(choice: WholeChoice) -> float:
    """Mean log-probability of the tokens of the choice's text; a choice without any is the worst.

    Beside an echo the token that ended the choice is told as well, and must not count there alone.
    """
    values = [placed.entry.logprob for placed in choice.logprobs if placed.entry.data]
    return math.fsum(values) / len(values) if values else -math.inf

"""What one step computes, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from engine.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """A sequence's share of a step: its tokens `start … start + num_tokens - 1`.

    `sample` tells whether the last of them is the last known token, so that a new one is sampled after it.
    Slots for all of them are in the sequence's block table already.
    """

    sequence: Sequence
    start: int
    num_tokens: int
    sample: bool


@dataclass(frozen=True, slots=True)
class ScheduledBatch:
    """All shares of one step, never empty; the token budget bounds the sum of their tokens."""

    items: tuple[ScheduledSequence, ...]

    @property
    def num_tokens(self) -> int:
        return sum(item.num_tokens for item in self.items)


class SampledToken(NamedTuple):
    """The token sampled for one sequence, and its log-probabilities if the request asked for them.

    `logprob` is None when not asked for. `top` holds (token id, log-probability), likeliest first.
    """

    token_id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...]

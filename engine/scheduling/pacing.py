"""How many tokens a step may have so that it does not take too long."""

from __future__ import annotations

MIN_CHUNK = 16
"""Fewest tokens that prompts get in a step, so that they go on however slow the machine is."""


class StepPacer:
    """Learns from the time steps took how many tokens fit into the time a step may take.

    The time of a step is some constant plus a part that grows with its tokens. Scaling the tokens by the ratio of the
    wanted to the measured time, over and over, settles where the two are equal, without knowing either part.

    Args:
        max_tokens: token budget of a step.
        max_seconds: what a step may take while answers are under way; 0 means any time.
    """

    def __init__(self, max_tokens: int, max_seconds: float) -> None:
        self._max_tokens = max_tokens
        self._max_seconds = max_seconds
        self._limit = float(MIN_CHUNK if max_seconds else max_tokens)

    def tokens_for_prompts(self, decodes: int) -> int:
        """Most tokens of prompts in a step that gives `decodes` answers a token each; these are never put off."""
        room = self._max_tokens - decodes
        if not decodes or not self._max_seconds:
            return room
        return min(room, max(MIN_CHUNK, int(self._limit) - decodes))

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from a step that computed a part of some prompt.

        A short step says little of what a longer one would take: most of its time may be the constant part. So it
        lowers the limit only if even it took too long, and at most doubles it.
        """
        if not self._max_seconds or seconds <= 0:
            return
        fitting = num_tokens * self._max_seconds / seconds
        if num_tokens >= int(self._limit) or seconds > self._max_seconds:
            self._limit = min(fitting, 2 * self._limit)
        else:
            self._limit = max(self._limit, min(fitting, 2 * self._limit))
        self._limit = min(max(self._limit, float(MIN_CHUNK)), float(self._max_tokens))

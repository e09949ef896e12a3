"""How many tokens a step may have so that it does not take too long."""

from __future__ import annotations

MIN_CHUNK = 16
"""Fewest tokens that prompts get in a step, so that they go on however slow the machine is."""

STRETCH = 3
"""A step with prompts may always take so many times what one without them takes.

Part of every step's time is the same whatever the number of its tokens. If it is no more than a third of the whole,
prompts keep two thirds of the pace they would have in long steps.
"""


class StepPacer:
    """Learns from the time steps took how many tokens fit into the time a step may take.

    The time of a step is some constant plus a part that grows with its tokens. Scaling the tokens by the ratio of the
    wanted to the measured time, over and over, settles where the two are equal, without knowing either part.

    Args:
        max_tokens: token budget of a step.
        max_seconds: what a step may take while answers are under way, unless steps without prompts take more than a
            third of that already; 0 means any time.
    """

    def __init__(self, max_tokens: int, max_seconds: float) -> None:
        self._max_tokens = max_tokens
        self._max_seconds = max_seconds
        self._limit = float(MIN_CHUNK if max_seconds else max_tokens)
        self._decode_seconds = 0.0  # of late

    def tokens_for_prompts(self, decodes: int) -> int:
        """Most tokens of prompts in a step that gives `decodes` answers a token each; these are never put off."""
        room = self._max_tokens - decodes
        if not decodes or not self._max_seconds:
            return room
        return min(room, max(MIN_CHUNK, int(self._limit) - decodes))

    def observe_decodes(self, seconds: float) -> None:
        """Learn from a step without prompts. One that took unusually long, for whatever reason, counts for little."""
        usual = self._decode_seconds or seconds
        self._decode_seconds = usual + (min(seconds, 2 * usual) - usual) / 8

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from a step that computed a part of some prompt.

        A short step says little of what a longer one would take: most of its time may be the constant part. So it
        lowers the limit only if even it took too long, and at most doubles it.
        """
        if not self._max_seconds or seconds <= 0:
            return
        allowed = max(self._max_seconds, STRETCH * self._decode_seconds)
        fitting = num_tokens * allowed / seconds
        if num_tokens >= int(self._limit) or seconds > allowed:
            self._limit = min(fitting, 2 * self._limit)
        else:
            self._limit = max(self._limit, min(fitting, 2 * self._limit))
        self._limit = min(max(self._limit, float(MIN_CHUNK)), float(self._max_tokens))

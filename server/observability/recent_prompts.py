"""The latest prompts as token ids, to find out where a new one departs from what the prefix cache may hold."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_PROMPTS = 64
MAX_TOKENS = 1 << 20
"""Most tokens of all remembered prompts and answers together; 4 bytes each."""


@dataclass(slots=True, eq=False)
class RecentPrompt:
    """A prompt, and the answer as far as it has come: both are what the cache may hold.

    Attributes:
        caller: who sent it; nobody else is told anything about it.
        at: when, by the clock of `RecentPrompts`.
        prompt_tokens: how many of `tokens` are the prompt.
        tokens: ids of the prompt and of its first choice.
    """

    caller: str
    at: float
    prompt_tokens: int
    tokens: array[int]


class Match(NamedTuple):
    """The recent prompt that begins most like another one."""

    seconds_ago: float
    prompt_tokens: int
    tokens: array[int]  # with its answer, as of now
    common: int  # leading tokens that are the same


class RecentPrompts:
    """Remembers the latest prompts of all callers, within `MAX_PROMPTS` and `MAX_TOKENS`.

    Args:
        clock: seconds from any fixed moment.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._prompts: deque[RecentPrompt] = deque(maxlen=MAX_PROMPTS)

    def record(self, caller: str, prompt: Sequence[int]) -> RecentPrompt:
        """Remember a prompt; whoever reads its answer appends the answer's tokens."""
        entry = RecentPrompt(caller, self._clock(), len(prompt), array("I", prompt[:MAX_TOKENS]))
        self._prompts.append(entry)
        size = sum(len(each.tokens) for each in self._prompts)
        while size > MAX_TOKENS and len(self._prompts) > 1:
            size -= len(self._prompts.popleft().tokens)
        return entry

    def of(self, caller: str) -> list[RecentPrompt]:
        """Copies of what this caller sent lately, the latest first, for another thread to read."""
        return [
            RecentPrompt(caller, each.at, each.prompt_tokens, each.tokens[:])
            for each in reversed(self._prompts)
            if each.caller == caller
        ]

    def nearest(self, candidates: Sequence[RecentPrompt], prompt: Sequence[int]) -> Match | None:
        """The one of `candidates` with most leading tokens in common, the first of several; None if there is none."""
        wanted = array("I", prompt)
        best: Match | None = None
        for each in candidates:
            common = common_prefix(each.tokens, wanted)
            if best is None or common > best.common:
                best = Match(self._clock() - each.at, each.prompt_tokens, each.tokens, common)
        return best


def common_prefix(one: array[int], other: array[int]) -> int:
    """Number of leading elements that are equal."""
    low, high = 0, min(len(one), len(other))
    with memoryview(one) as left, memoryview(other) as right:
        while low < high:  # the first `low` are equal; not more than `high` are
            middle = (low + high + 1) // 2
            if left[low:middle] == right[low:middle]:
                low = middle
            else:
                high = middle - 1
    return low

"""How much may wait: requests beyond the limits are refused at once, and told when to come back."""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.errors import OverloadedError

MAX_RETRY_SECONDS = 60.0
"""Longest advice on when to come back; whatever is measured now says little about later."""


class QueueLimits(Protocol):
    """How much may wait; 0 is any number. `EngineConfig` and `ModelInfo` say so."""

    @property
    def max_queued_requests(self) -> int:
        """Prompts."""
        ...

    @property
    def max_queued_tokens(self) -> int:
        """Tokens of them together."""
        ...


class QueueGate:
    """Counts the prompts that were admitted and have no token yet. Those that are refused never reach the engine.

    Args:
        limits: how many may wait.
        clock: seconds from any fixed moment.

    Attributes:
        limits: may be replaced.
    """

    def __init__(self, limits: QueueLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._begun: deque[float] = deque(maxlen=64)  # when the latest prompts got their first token
        self.requests = 0
        self.tokens = 0

    def enter(self, prompts: Sequence[Sequence[int]]) -> list[QueuePlace]:
        """Places for all prompts of one HTTP request, or for none of them.

        Where nothing waits anything is let in: a request larger than the limits could otherwise never be answered.

        Args:
            prompts: token ids of each.

        Raises:
            OverloadedError: as many requests or tokens wait as may.
        """
        tokens = sum(map(len, prompts))
        max_requests, max_tokens = self.limits.max_queued_requests, self.limits.max_queued_tokens
        if self.requests and self.requests + len(prompts) > (max_requests or math.inf):
            raise self._overloaded(f"{self.requests} requests wait already, and at most {max_requests} may")
        if self.requests and self.tokens + tokens > (max_tokens or math.inf):
            raise self._overloaded(
                f"Requests of {self.tokens} prompt tokens wait already, and at most {max_tokens} may"
            )
        return [QueuePlace(self, len(prompt)) for prompt in prompts]

    def _overloaded(self, why: str) -> OverloadedError:
        return OverloadedError(f"{why}. Please try again later.", retry_after=self.retry_after())

    def retry_after(self) -> float:
        """Seconds in which everything that waits will have begun, at the pace of late; 1 to `MAX_RETRY_SECONDS`."""
        if not self._begun:
            return 1.0
        pace = len(self._begun) / max(self._clock() - self._begun[0], 1e-3)
        return min(max(self.requests / pace, 1.0), MAX_RETRY_SECONDS)

    def begin(self) -> None:
        """Note that a prompt has got its first token."""
        self._begun.append(self._clock())

    def count(self, requests: int, tokens: int) -> None:
        """Change how much waits."""
        self.requests += requests
        self.tokens += tokens


class QueuePlace:
    """A waiting prompt. It stops counting when it begins or leaves, or when nobody holds the place any more.

    The last matters: an answer that was made but never sent, because its client had gone, runs no code of its own.
    """

    def __init__(self, gate: QueueGate, tokens: int) -> None:
        gate.count(1, tokens)
        self._gate = gate
        self._leave = weakref.finalize(self, gate.count, -1, -tokens)
        self._leave.atexit = False

    def begin(self) -> None:
        """The first token is there; further calls do nothing."""
        if self._leave.alive:
            self._gate.begin()
            self._leave()

    def leave(self) -> None:
        """The prompt waits no more, whatever became of it."""
        self._leave()

"""From sampled tokens to final ones: what of a choice may be shown, and where its text ends."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from engine.constraints.base import Constraint
from engine.types import TokenLogprob


class EmittedToken(NamedTuple):
    """A token that is never taken back; `data` is what of it belongs to the text."""

    token_id: int
    data: bytes
    logprob: TokenLogprob | None


class Emitter:
    """Holds back the tokens of one choice until nothing can remove a part of them.

    A token is shown whole: one whose last byte is still held back waits with it. The constraint's verdict on the text
    does not depend on how it is cut into tokens, so neither does the text shown in the end.
    """

    def __init__(self, constraint: Constraint | None) -> None:
        self._constraint = constraint
        self._pending: deque[EmittedToken] = deque()
        self._pending_bytes = 0
        self._num_tokens = 0

    def push(self, token_id: int, data: bytes, logprob: TokenLogprob | None) -> str | None:
        """Take in the next token and the bytes it adds to the text; returns the stop string it completes, if any."""
        self._num_tokens += 1
        self._pending.append(EmittedToken(token_id, data, logprob))
        self._pending_bytes += len(data)
        ending = self._constraint.advance(data, self._num_tokens) if self._constraint else None
        if ending is None:
            return None
        self._shorten(self._pending_bytes - len(data) + ending.end - ending.cut)
        return ending.stop

    def take(self, *, final: bool = False) -> list[EmittedToken]:
        """Tokens that have become certain; all that are left, if the choice has ended."""
        held = 0 if final or self._constraint is None else self._constraint.held
        taken: list[EmittedToken] = []
        while self._pending and len(self._pending[0].data) <= self._pending_bytes - held:
            token = self._pending.popleft()
            self._pending_bytes -= len(token.data)
            taken.append(token)
        return taken

    def _shorten(self, size: int) -> None:
        """Keep only the first `size` bytes of what is pending. Tokens wholly behind them are dropped."""
        kept: deque[EmittedToken] = deque()
        room = size
        for token in self._pending:
            if len(token.data) > room:
                if room:
                    kept.append(_cut(token, room))
                break
            kept.append(token)
            room -= len(token.data)
        self._pending = kept
        self._pending_bytes = size


def _cut(token: EmittedToken, size: int) -> EmittedToken:
    data = token.data[:size]
    logprob = token.logprob._replace(data=data) if token.logprob is not None else None
    return EmittedToken(token.token_id, data, logprob)

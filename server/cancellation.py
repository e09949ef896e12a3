"""Answers that are ended by somebody else than who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakKeyDictionary

from engine.errors import RequestCancelledError, RequestNotFoundError

T = TypeVar("T")


class Cancellation:
    """Ends one piece of work from outside, where it waits: at once if it does so now, else the next time."""

    def __init__(self) -> None:
        self._asked = False
        self._waiting: asyncio.Task[object] | None = None

    def ask(self) -> None:
        """Have the work end. Once is enough; more changes nothing."""
        if not self._asked and self._waiting is not None:
            self._waiting.cancel()
        self._asked = True

    async def wait(self, begin: Callable[[], Awaitable[T]]) -> T:
        """Wait for something.

        Args:
            begin: begins it; not called any more once the work is to end.

        Raises:
            RequestCancelledError: the work is to end.
        """
        if self._asked:
            raise RequestCancelledError
        self._waiting = asyncio.current_task()
        try:
            return await begin()
        except asyncio.CancelledError:
            # the task may be cancelled for other reasons as well, which then count
            if self._asked and self._waiting is not None and self._waiting.uncancel() == 0:
                raise RequestCancelledError from None
            raise
        finally:
            self._waiting = None


class Cancellable(Protocol):
    """An answer that can be ended; known by its identity."""

    def cancel(self) -> bool:
        """End it; whether there was anything to end."""
        ...


@dataclass(frozen=True, slots=True)
class _Known:
    caller: str
    names: frozenset[str]


class RunningRequests:
    """The requests that are being answered, by the names they go by. What nobody else holds any more is forgotten."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Cancellable, _Known] = WeakKeyDictionary()

    def add(self, answer: Cancellable, caller: str, names: Collection[str]) -> None:
        """Know an answer.

        Args:
            answer: to be ended on demand.
            caller: whose it is, as of `caller_of`.
            names: under which it may be ended.
        """
        self._known[answer] = _Known(caller, frozenset(names))

    def cancel(self, name: str, caller: str | None) -> int:
        """End the answers of this name, which are usually one.

        Args:
            name: one of its names.
            caller: whose answers; None for anybody's.

        Returns:
            how many there were.

        Raises:
            RequestNotFoundError: there is none, or only those of others.
        """
        named = [
            answer
            for answer, known in list(self._known.items())
            if name in known.names and caller in (None, known.caller)
        ]
        ended = sum(answer.cancel() for answer in named)
        if not ended:
            raise RequestNotFoundError(name)
        return ended

"""Requests that wait until their model is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import QuireError
from server.models.slot import Slot


@dataclass(slots=True, eq=False)
class _Waiter:
    name: str
    slot: asyncio.Future[Slot]


class WaitingRoom:
    """Keeps those who wait in the order they came.

    Args:
        leave: called for one who left in the very moment of being served.
    """

    def __init__(self, leave: Callable[[Slot], None]) -> None:
        self._leave = leave
        self._waiters: list[_Waiter] = []

    @property
    def first(self) -> str | None:
        """The model that the first of them waits for."""
        return self._waiters[0].name if self._waiters else None

    def count(self, name: str) -> int:
        """How many wait for a model."""
        return sum(waiter.name == name for waiter in self._waiters)

    def enter(self, name: str) -> asyncio.Future[Slot]:
        """A place in line; to be awaited by `wait`."""
        waiter = _Waiter(name, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        return waiter.slot

    async def wait(self, place: asyncio.Future[Slot]) -> Slot:
        """The model, which counts as used by the one who waited.

        Raises:
            QuireError: what `fail` was told.
        """
        try:
            return await place
        except asyncio.CancelledError:
            self._waiters = [waiter for waiter in self._waiters if waiter.slot is not place]
            if not place.cancelled() and place.exception() is None:  # served in the same moment
                self._leave(place.result())
            raise

    def serve(self, slot: Slot) -> None:
        """Let everybody use a model who waits for it, whenever they came."""
        for waiter in self._take(slot.name):
            slot.enter()
            waiter.slot.set_result(slot)

    def fail(self, error: Callable[[], QuireError], name: str | None = None) -> None:
        """Refuse those who wait for a model, or for any; each gets an error of its own."""
        for waiter in self._take(name):
            waiter.slot.set_exception(error())

    def _take(self, name: str | None) -> list[_Waiter]:
        """Those who wait for a model (None is any), no longer in line; those who have just left are no more."""
        taken = [waiter for waiter in self._waiters if name in (None, waiter.name)]
        self._waiters = [waiter for waiter in self._waiters if waiter not in taken]
        return [waiter for waiter in taken if not waiter.slot.done()]

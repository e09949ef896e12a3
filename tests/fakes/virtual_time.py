"""An event loop whose clock stands still while there is something to do, and else jumps to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class StuckError(Exception):
    """Everything waits and no timer will end it."""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        arrived = super().select(0)
        if arrived:
            return arrived
        if timeout is None:
            raise StuckError
        self.now += timeout
        return arrived


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def stand_still(seconds: float) -> None:
    """Let time pass in which nothing of the running loop happens."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _Loop)
    loop.clock.now += seconds


def run(body: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time, which begins at 0.

    Raises:
        StuckError: nothing can happen any more and the body has not ended.
    """
    loop = _Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(body)
        except StuckError:
            loop.clock.select = lambda _=None: []  # type: ignore[method-assign,misc]  # let the runner cancel what waits
            raise

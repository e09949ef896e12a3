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
        if timeout is None:
            raise StuckError
        self.now += timeout
        return super().select(0)


def run(body: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time, which begins at 0.

    Raises:
        StuckError: nothing can happen any more and the body has not ended.
    """
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(body)
        except StuckError:
            selector.select = lambda _=None: []  # type: ignore[method-assign,misc]  # let the runner cancel what waits
            raise

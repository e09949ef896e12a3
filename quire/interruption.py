"""Ending a program early, by Ctrl-C or by a signal of whatever runs it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import Self

AGAIN_SECONDS = 5.0
"""After which a job that goes on in spite of a signal is interrupted once more."""


class Interruptible:
    """Lets SIGTERM and Ctrl-C end a `with` block with a KeyboardInterrupt, so that everything in it is closed.

    The exception appears wherever the program happens to be, also within a library's call back into Python, and not
    every library passes it on: some turn it into an error of their own, and what is raised while an object is disposed
    of is only printed. So it is remembered that a signal came. An error after that is the interruption, and a block
    that goes on is interrupted again every `again` seconds.

    Signals that are ignored, as Ctrl-C is in the background of a shell, stay so. Only the main thread may use this.
    """

    def __init__(self, again: float = AGAIN_SECONDS) -> None:
        self._again = again
        self._signalled = False
        self._on_exit = ExitStack()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._on_exit.callback(signal.signal, number, signal.signal(number, self._interrupt))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_exit.close()
        if self._signalled and error is not None and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if not self._signalled:
            self._signalled = True
            self._on_exit.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, self._interrupt))
            timer = signal.setitimer(signal.ITIMER_REAL, self._again, self._again)
            self._on_exit.callback(signal.setitimer, signal.ITIMER_REAL, *timer)
        raise KeyboardInterrupt


@contextmanager
def termination_as_success() -> Iterator[None]:
    """Let SIGTERM end the process at once, with exit status 0, until something in the `with` block handles it better.

    For a program whose usual end the signal is, as long as it has nothing to close.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

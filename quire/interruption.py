"""Ending a long job early, by Ctrl-C or by a signal of whatever runs it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the `with` block as Ctrl-C does: with a KeyboardInterrupt, so that everything is closed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""What the server's own log adds to that of both processes: quiet libraries, and errors of the event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import Any

from engine.logs import LogFormat, LogLevel, LogSettings
from engine.logs import configure_logging as configure_process

logger = logging.getLogger(__name__)

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def configure_logging(level: LogLevel, form: LogFormat = "text") -> None:
    """Log what is at least as severe as `level`, in this form."""
    configure_process(LogSettings(level, form))
    # our own line for each request says more, and leaves out query strings, which may hold secrets
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    if level == "debug":
        # these repeat every byte of every stream
        logging.getLogger("sse_starlette").setLevel(logging.INFO)
    else:
        # what these say of a start and an end our own banner says better
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class Seldom:
    """Says whether it is time again to log what would otherwise be logged with every connection."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._next = 0.0

    def now(self) -> bool:
        """True at most once in so many seconds."""
        due = time.monotonic() >= self._next
        if due:
            self._next = time.monotonic() + self._seconds
        return due


class LoopErrorLog:
    """Handler for what the event loop alone has noticed. Its own would show the error's words, and tasks with them."""

    def __init__(self) -> None:
        self._seldom = Seldom()

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log it; where descriptors have run out, not for each of the thousands of attempts to accept a connection."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS:
            if self._seldom.now():
                logger.error("Connections have to wait: %s. Raise the limit (`ulimit -n`).", error.strerror)
            return
        logger.error("%s", context.get("message", "An error in the event loop."), exc_info=error)

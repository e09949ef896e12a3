"""What the server's own log adds to that of both processes: quiet libraries, and errors of the event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from engine.logs import LogFormat, LogLevel, LogSettings
from engine.logs import configure_logging as configure_process

logger = logging.getLogger(__name__)


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


def log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handler for what the event loop alone has noticed. Its own would show the error's words, and tasks with them."""
    logger.error("%s", context.get("message", "An error in the event loop."), exc_info=context.get("exception"))

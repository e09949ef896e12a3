"""The server's log: one line per event, to standard error."""

from __future__ import annotations

import logging

from server.config import LogLevel


def configure_logging(level: LogLevel) -> None:
    """Log what is at least as severe as `level`."""
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    if level == "debug":
        # these repeat every byte of every stream
        logging.getLogger("sse_starlette").setLevel(logging.INFO)
    else:
        # what these say of a start and an end our own banner says better
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

"""The server's log: one line per event, to standard error, for people or for machines."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from server.config import LogFormat, LogLevel

FIELDS = "fields"
"""Attribute of a log record (`extra={FIELDS: …}`) that holds values by name, beside its message."""


class TextFormatter(logging.Formatter):
    """Time, level, logger, message, and the fields as `name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, without a traceback."""
        fields = " ".join(f"{name}={json.dumps(value)}" for name, value in _fields(record).items())
        return f"{super().formatMessage(record)} {fields}".rstrip()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, the fields, and a traceback as `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as a line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(level: LogLevel, form: LogFormat = "text") -> None:
    """Log what is at least as severe as `level`, in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # our own line for each request says more, and leaves out query strings, which may hold secrets
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    if level == "debug":
        # these repeat every byte of every stream
        logging.getLogger("sse_starlette").setLevel(logging.INFO)
    else:
        # what these say of a start and an end our own banner says better
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, FIELDS, {})
    return fields

"""How both processes log: one line per event, to standard error, for people or for machines."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, Literal, NamedTuple

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

FIELDS = "fields"
"""Attribute of a log record (`extra={FIELDS: …}`) that holds values by name, beside its message."""

logger = logging.getLogger(__name__)

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LogSettings(NamedTuple):
    """What a process logs, and how."""

    level: str = "info"
    form: str = "text"


class _Formatter(logging.Formatter):
    """Writes tracebacks without what the errors say: a library's words may quote a request."""

    def formatException(self, ei: ExceptionInfo) -> str:
        """Where it happened and the names of the errors."""
        return "" if ei[1] is None else traceback_without_messages(ei[1])


class TextFormatter(_Formatter):
    """Time, level, logger, message, and the fields as `name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, without a traceback."""
        fields = " ".join(f"{name}={json.dumps(value)}" for name, value in _fields(record).items())
        return f"{super().formatMessage(record)} {fields}".rstrip()


class JsonFormatter(_Formatter):
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


def configure_logging(settings: LogSettings) -> None:
    """Log as the settings say, also what Python itself would print: warnings, and errors that end a thread."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.form == "json" else TextFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_uncaught_in_thread


def settings_in_use() -> LogSettings:
    """How this process logs, so that a child can log alike."""
    root = logging.getLogger()
    form = "json" if any(isinstance(each.formatter, JsonFormatter) for each in root.handlers) else "text"
    return LogSettings(logging.getLevelName(root.level).lower(), form)


def traceback_without_messages(error: BaseException) -> str:
    """Where an error and those that led to it were raised, and their classes, but nothing they say."""
    parts: list[str] = []
    following: BaseException | None = error
    while following is not None and len(parts) < 10:
        inner = following.exceptions if isinstance(following, BaseExceptionGroup) else ()
        frames = "".join(traceback.format_tb(following.__traceback__))
        kind = type(following)
        lines = [f"Traceback (most recent call last):\n{frames}{kind.__module__}.{kind.__qualname__}"]
        parts.append("\n".join([*lines, *map(traceback_without_messages, inner)]))
        suppressed = following.__suppress_context__
        following = following.__cause__ or (None if suppressed else following.__context__)
    return "\nwhich led to\n".join(reversed(parts))


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    # what ends a process is no matter of a request, and its words may be all there is to go by
    logger.critical("The process ends by an error: %s: %s", kind.__name__, error, exc_info=error)


def _on_uncaught_in_thread(details: threading.ExceptHookArgs) -> None:
    logger.critical("A thread has ended by an error.", exc_info=details.exc_value)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, FIELDS, {})
    return fields

from __future__ import annotations

import json
import logging
import sys

from server.observability.logs import FIELDS, JsonFormatter, TextFormatter


def record(message: str, *arguments: object, **attributes: object) -> logging.LogRecord:
    made = logging.LogRecord("server.x", logging.WARNING, "x.py", 1, message, arguments, None)
    made.created, made.msecs = 0.25, 250
    made.__dict__.update(attributes)
    return made


def test_json_is_one_object_per_line() -> None:
    line = JsonFormatter().format(record("it is\n%s", "so", **{FIELDS: {"route": "/x", "status": None}}))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "server.x",
        "message": "it is\nso",
        "route": "/x",
        "status": None,
    }


def test_a_traceback_is_part_of_the_object() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        line = JsonFormatter().format(record("it failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_text_ends_with_the_fields() -> None:
    line = TextFormatter().format(record("it ended", **{FIELDS: {"route": "/x", "finish_reasons": ["stop"]}}))
    assert line.endswith('WARNING server.x: it ended route="/x" finish_reasons=["stop"]')
    assert TextFormatter().format(record("plain")).endswith("WARNING server.x: plain")

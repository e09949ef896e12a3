from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from engine.logs import FIELDS, JsonFormatter, TextFormatter


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
    assert json.loads(line)["exception"].endswith("builtins.ValueError")
    assert "test_logs.py" in json.loads(line)["exception"]


def raise_in_many_ways(words: str) -> None:
    try:
        raise KeyError(words)
    except KeyError as cause:
        inner = ExceptionGroup(words, [ValueError(words), TypeError(words)])
        raise RuntimeError(words) from inner if words else cause


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_traceback_says_where_but_not_what(formatter: logging.Formatter) -> None:
    canary = "words of a prompt"
    try:
        raise_in_many_ways(canary)
    except RuntimeError:
        written = formatter.format(record("it failed", exc_info=sys.exc_info()))
    assert canary not in written
    assert "raise_in_many_ways" in written
    for kind in ("ExceptionGroup", "ValueError", "TypeError", "RuntimeError"):
        assert f"builtins.{kind}" in written


def log_of(program: str, *settings: str) -> list[str]:
    """What a process of its own, set up with these settings, writes on its error output."""
    setup = f"from engine.logs import *; configure_logging(LogSettings(*{settings!r}));"
    command = [sys.executable, "-c", f"{setup} {program}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()


def test_what_python_would_print_is_logged_too() -> None:
    program = (
        "import threading, warnings; warnings.warn('old'); "
        "each = threading.Thread(target=lambda: 1 / 0); each.start(); each.join(); {}['nothing']"
    )
    warned, thread, end = [json.loads(line) for line in log_of(program, "info", "json")]
    assert "old" in warned["message"]
    assert "ZeroDivisionError" in thread["exception"]
    assert (end["level"], end["message"]) == ("critical", "The process ends by an error: KeyError: 'nothing'")


@pytest.mark.parametrize("settings", [("debug", "json"), ("warning", "text")])
def test_a_child_can_be_told_to_log_alike(settings: tuple[str, str]) -> None:
    assert log_of("print(*settings_in_use(), file=sys.stderr)", *settings) == [" ".join(settings)]


def test_text_ends_with_the_fields() -> None:
    line = TextFormatter().format(record("it ended", **{FIELDS: {"route": "/x", "finish_reasons": ["stop"]}}))
    assert line.endswith('WARNING server.x: it ended route="/x" finish_reasons=["stop"]')
    assert TextFormatter().format(record("plain")).endswith("WARNING server.x: plain")

"""Showing text that others wrote, a model or a server, on a terminal."""

from __future__ import annotations

import sys
from typing import TextIO

_CONTROLS = {code: "\ufffd" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}
_DIM, _PLAIN = "\x1b[2m", "\x1b[22m"


def show(text: str) -> None:
    """Write to standard output at once. On a terminal control characters are replaced: nobody else must steer it."""
    _write(text, sys.stdout)


def show_aside(text: str) -> None:
    """Write to standard output what is not the answer itself; on a terminal it is dim."""
    if text and sys.stdout.isatty():
        sys.stdout.write(f"{_DIM}{text.translate(_CONTROLS)}{_PLAIN}")
        sys.stdout.flush()
    else:
        show(text)


def notify(text: str) -> None:
    """Write a line to standard error, likewise."""
    _write(f"{text}\n", sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    stream.write(text.translate(_CONTROLS) if stream.isatty() else text)
    stream.flush()

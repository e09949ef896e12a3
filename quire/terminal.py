"""Showing a model's text on a terminal."""

from __future__ import annotations

import sys

_CONTROLS = {code: "\ufffd" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}


def show(text: str) -> None:
    """Write to standard output at once. On a terminal, control characters are replaced: a model must not steer it."""
    sys.stdout.write(text.translate(_CONTROLS) if sys.stdout.isatty() else text)
    sys.stdout.flush()

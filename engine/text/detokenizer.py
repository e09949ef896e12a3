"""Bytes as they come, out as text."""

from __future__ import annotations

import codecs


class Utf8Assembler:
    """Turns the bytes of a stream into text, piece by piece.

    However the bytes are cut, the pieces join to exactly `data.decode("utf-8", errors="replace")` of the whole: only
    the beginning of a character whose end may still come is held back, and what can no longer become a character
    turns into U+FFFD at once.

    Attributes:
        pending: bytes held back, the incomplete beginning of a character, at most three.
    """

    def __init__(self) -> None:
        self.pending = b""

    def feed(self, data: bytes) -> str:
        """Text that is certain now that `data` has arrived."""
        data = self.pending + data
        text, taken = codecs.utf_8_decode(data, "replace", False)
        self.pending = data[taken:]
        return text

    def flush(self) -> str:
        """End the stream: U+FFFD if a character was left incomplete, else nothing. The assembler may be used again."""
        text, _ = codecs.utf_8_decode(self.pending, "replace", True)
        self.pending = b""
        return text

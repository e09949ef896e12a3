"""Finding the end of a JSON value in a text that grows."""

from __future__ import annotations

import re

BLANKS = " \t\r\n"

_CLOSING = {"{": "}", "[": "]"}
_PLAIN = re.compile(r'[^"\\]*')
_SCALAR = re.compile(r"[0-9A-Za-z+.-]*")


class JsonScanner:
    """Follows the strings and brackets of one value; whether it is valid otherwise is not looked at.

    The value ends with its last bracket or quote, a number or word before the first character that is none of it, and
    broken JSON before the first character that cannot stand there: a bracket that was not opened, or one JSON does not
    have outside of strings.

    Attributes:
        ended: the value is over.
        whole: it ended where a value may.
        in_string: what follows is within a string.
    """

    def __init__(self) -> None:
        self.ended = False
        self.whole = False
        self.in_string = False
        self._open: list[str] = []  # brackets that are to be closed, the innermost last
        self._begun = False
        self._escaped = False

    def feed(self, text: str, start: int = 0) -> int:
        """Take in more of the text.

        Args:
            text: what has come.
            start: where in it the value goes on; at its first character the first time, not at blanks.

        Returns:
            How far it belongs to the value: an index of the text.
        """
        place = start
        while place < len(text) and not self.ended:
            place = self._string(text, place) if self.in_string else self._outside(text, place)
            self._begun = True
        return place

    def _string(self, text: str, place: int) -> int:
        if self._escaped:
            self._escaped = False
            return place + 1
        found = _PLAIN.match(text, place)
        place = found.end() if found else place
        if place == len(text):
            return place
        if text[place] == "\\":
            self._escaped = True
        else:
            self.in_string = False
            self._end_if_closed()
        return place + 1

    def _outside(self, text: str, place: int) -> int:
        character = text[place]
        if character == '"' and (self._open or not self._begun):
            self.in_string = True
        elif character in _CLOSING and (self._open or not self._begun):
            self._open.append(_CLOSING[character])
        elif self._open and character == self._open[-1]:
            self._open.pop()
            self._end_if_closed()
        elif self._open and character in BLANKS + ",:":
            pass
        else:
            return self._scalar(text, place)
        return place + 1

    def _scalar(self, text: str, place: int) -> int:
        """A number or word, or what does not belong here."""
        found = _SCALAR.match(text, place)
        end = found.end() if found else place
        if end < len(text) and not self._open:
            self.ended, self.whole = True, self._begun or end > place
        elif end == place:
            self.ended = True
        return end

    def _end_if_closed(self) -> None:
        if not self._open:
            self.ended = self.whole = True

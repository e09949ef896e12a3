"""Python's notation while it grows: what a string says so far, and where another value ends."""

from __future__ import annotations

import re

from server.parsing.python_literal import unescaped

_CLOSING = {"{": "}", "[": "]", "(": ")"}
_PREFIXES = "rRuUbBfF"
_BODIES = {
    "'": re.compile(r"(?:[^\\']|\\.)*", re.DOTALL),
    '"': re.compile(r'(?:[^\\"]|\\.)*', re.DOTALL),
    "'''": re.compile(r"(?:[^\\']|\\.|'{1,2}(?=[^']))*", re.DOTALL),
    '"""': re.compile(r'(?:[^\\"]|\\.|"{1,2}(?=[^"]))*', re.DOTALL),
}
_ESCAPE_BEGINS = re.compile(r"\\.", re.DOTALL)
_HEX = "[0-9a-fA-F]"
_MAY_GO_ON = re.compile(
    rf"\\(?:[0-7]{{1,2}}|x{_HEX}?|u{_HEX}{{0,3}}|U{_HEX}{{0,7}}|N(?:\{{[^}}]{{0,100}})?"
    rf"|u[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}?)?)?)?)?)"
)


def opening_quote(text: str, place: int = 0) -> str | None:
    """The quote that stands there in a text: "" if that cannot be said yet, None if there is none."""
    next_ones = text[place : place + 3]
    first = next_ones[:1]
    if first not in _BODIES:
        return None
    if next_ones == first * len(next_ones):
        return next_ones if len(next_ones) == 3 else ""
    return first


class StringReader:
    """Reads the inside of quotes.

    Attributes:
        ended: the closing quote was read.
    """

    def __init__(self, quote: str) -> None:
        self.ended = False
        self._quote = quote

    def feed(self, text: str) -> tuple[str, int]:
        """What is certain of the string, and how much of the text that and the closing quote take."""
        body = _BODIES[self._quote].match(text)
        end = body.end() if body else 0
        self.ended = text.startswith(self._quote, end)
        if self.ended:
            return unescaped(text[:end]), end + len(self._quote)
        for escape in [*_ESCAPE_BEGINS.finditer(text, 0, end)][-2:]:  # two, where they may be a pair
            if _MAY_GO_ON.fullmatch(text, escape.start(), end):
                end = escape.start()
        return unescaped(text[:end]), end


class ValueScanner:
    """Follows the strings and brackets of a value that is an argument, up to the comma or bracket behind it.

    Attributes:
        ended: the value is over.
    """

    def __init__(self) -> None:
        self.ended = False
        self._open: list[str] = []  # brackets that are to be closed, the innermost last
        self._string: StringReader | None = None
        self._word = ""  # that a quote would follow, not the whole of it

    def feed(self, text: str) -> int:
        """How much of the text belongs to the value; the rest is shown again, unless the value is over."""
        place = 0
        while place < len(text) and not self.ended:
            before = place
            place = self._in_string(text, place, self._string) if self._string else self._outside(text, place)
            if place == before:
                break
        return place

    def _in_string(self, text: str, place: int, string: StringReader) -> int:
        _, used = string.feed(text[place:])
        if string.ended:
            self._string = None
        return place + used

    def _outside(self, text: str, place: int) -> int:
        character = text[place]
        quote = None if self._is_apostrophe() else opening_quote(text, place)
        if quote == "":
            return place
        in_word = character.isalnum() or (quote is None and character in _BODIES)
        self._word = (self._word + character)[:2] if in_word else ""
        if quote:
            self._string = StringReader(quote)
            return place + len(quote)
        if character in _CLOSING:
            self._open.append(_CLOSING[character])
        elif self._open and character == self._open[-1]:
            self._open.pop()
        elif not self._open and character in ",)]":
            self.ended = True
            return place
        return place + 1

    def _is_apostrophe(self) -> bool:
        """Whether a quote here would stand within a word that is not quoted, as some models leave texts."""
        return len(self._word) > 1 or (self._word != "" and self._word not in _PREFIXES)

"""Values in Python's notation, as JSON text. Nothing is ever evaluated, and nothing recurses further than it may."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

MOST_NESTED = 64
"""Lists and dictionaries within each other; what is deeper is not taken for a literal."""

MOST_DIGITS = 400
"""Characters of a number."""

_QUOTED = "|".join(
    rf"{quote}(?:[^\\]|\\.)*?{quote}" for quote in ("'''", '"""', "'", '"')
)  # more than Python allows: a line may end within single quotes
_NUMBER = (  # possessive, or many digits before a letter would take for ever
    r"[-+]?(?:0[xX][0-9a-fA-F]++|0[oO][0-7]++|0[bB][01]++"
    r"|(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?+|\.[0-9][0-9_]*+)(?:[eE][-+]?[0-9]++)?+)(?![\w.])"
)
_TOKEN = re.compile(
    rf"(?P<string>[rRuU]?(?:{_QUOTED}))|(?P<number>{_NUMBER})|(?P<word>[A-Za-z]+)|(?P<mark>[][(){{}},:])|(?P<space>\s+)",
    re.DOTALL,
)
_DECIMAL = re.compile(r"([-+]?)0*([0-9]*)(?:(\.)([0-9]*))?([eE][-+]?[0-9]+)?")
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_ESCAPE = re.compile(
    r"\\(?:(?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<hex>x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
    r"|(?P<octal>[0-7]{1,3})|N\{(?P<name>[^}]{1,100})\}|(?P<one>.))",
    re.DOTALL,
)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": ""} | {
    c: c for c in "\\'\"/"
}


def literal_to_json(source: str) -> str | None:
    """A Python literal as JSON: numbers, strings, True, False, None, lists, tuples and dictionaries. Else None.

    The words of JSON are understood too, and keys that are no strings become ones, as `json.dumps` has it.
    """
    try:
        reader = _Reader(list(_tokens(source)))
        written = reader.value(0)
        reader.must_be_over()
    except _NotALiteralError:
        return None
    return written


def unescaped(body: str) -> str:
    """What the inside of quotes means. An escape that is none stands for itself, its backslash included.

    The two of JSON that Python lacks are understood too: `\\/`, and pairs like `\\ud83d\\ude00`.
    """
    return _ESCAPE.sub(_meaning, body)


class _NotALiteralError(Exception):
    """The text has a part that no literal has there."""


class _Token(NamedTuple):
    kind: str
    text: str


def _tokens(source: str) -> Iterator[_Token]:
    at = 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None or found.lastgroup is None:
            raise _NotALiteralError
        if found.lastgroup != "space":
            yield _Token(found.lastgroup, found[0])
        at = found.end()
    yield _Token("end", "")


class _Reader:
    """Reads tokens one after the other; each method returns the JSON of what it has read."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def value(self, depth: int) -> str:
        token = self._next()
        match token.kind, token.text:
            case "string", text:
                return self._strings(text)
            case "number", text:
                return _number(text)
            case "word", text if text in _WORDS:
                return _WORDS[text]
            case "mark", "[" | "(" | "{" if depth == MOST_NESTED:
                raise _NotALiteralError
            case "mark", "[":
                return f"[{', '.join(self._items(']', depth))}]"
            case "mark", "(":
                return self._parentheses(depth)
            case "mark", "{":
                return f"{{{', '.join(self._pairs(depth))}}}"
        raise _NotALiteralError

    def must_be_over(self) -> None:
        if self._next().kind != "end":
            raise _NotALiteralError

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _goes_on_with(self, mark: str) -> bool:
        """Whether this mark is next; it is read then."""
        there = self._tokens[self._at] == ("mark", mark)
        self._at += there
        return there

    def _strings(self, first: str) -> str:
        """Strings that stand side by side are one."""
        whole = _string(first)
        while self._tokens[self._at].kind == "string":
            whole += _string(self._next().text)
        return json.dumps(whole, ensure_ascii=False)

    def _items(self, closing: str, depth: int) -> Iterator[str]:
        while not self._goes_on_with(closing):
            yield self.value(depth + 1)
            if not self._goes_on_with(","):
                self._must_go_on_with(closing)
                return

    def _parentheses(self, depth: int) -> str:
        """A tuple, or the one value that stands in them."""
        if self._goes_on_with(")"):
            return "[]"
        first = self.value(depth + 1)
        if self._goes_on_with(")"):
            return first
        self._must_go_on_with(",")
        return f"[{', '.join([first, *self._items(')', depth)])}]"

    def _pairs(self, depth: int) -> Iterator[str]:
        while not self._goes_on_with("}"):
            key = self.value(depth + 1)
            if key[0] in "[{":
                raise _NotALiteralError
            self._must_go_on_with(":")
            quoted = key if key[0] == '"' else json.dumps(key)
            yield f"{quoted}: {self.value(depth + 1)}"
            if not self._goes_on_with(","):
                self._must_go_on_with("}")
                return

    def _must_go_on_with(self, mark: str) -> None:
        if not self._goes_on_with(mark):
            raise _NotALiteralError


def _string(token: str) -> str:
    raw = token[0] in "rR"
    token = token.lstrip("rRuU")
    width = 3 if token[:3] in ("'''", '"""') and len(token) >= 6 else 1
    body = token[width:-width]
    return body if raw else unescaped(body)


def _number(text: str) -> str:
    if len(text) > MOST_DIGITS:
        raise _NotALiteralError
    sign, digits = ("-" if text[0] == "-" else ""), text.lstrip("+-").replace("_", "")
    if digits[:2].lower() in ("0x", "0o", "0b"):
        return f"{sign}{int(digits, 0)}"
    found = _DECIMAL.fullmatch(digits)
    if found is None:
        raise _NotALiteralError
    _, whole, point, fraction, exponent = found.groups()
    return f"{sign}{whole or '0'}{f'.{fraction or 0}' if point else ''}{exponent or ''}"


def _meaning(escape: re.Match[str]) -> str:
    match escape.lastgroup, escape[escape.lastgroup or 0]:
        case "pair", text:
            high, low = int(text[1:5], 16), int(text[7:], 16)
            return chr(0x10000 + (high - 0xD800) * 0x400 + low - 0xDC00)
        case "hex", text:
            return _character(int(text[1:], 16), escape[0])
        case "octal", text:
            return chr(int(text, 8))
        case "name", text:
            try:
                return unicodedata.lookup(text)
            except KeyError:
                return escape[0]
        case _, text:
            return _SIMPLE.get(text, escape[0])


def _character(code: int, otherwise: str) -> str:
    if 0xD800 <= code < 0xE000:
        return "\N{REPLACEMENT CHARACTER}"  # half a pair
    return chr(code) if code < 0x110000 else otherwise

"""Reading GBNF, the notation of llama.cpp's grammars.

rule          name ::= alternatives        ends with the line, unless that ends in | or within parentheses
alternatives  sequence | sequence | …
item          "literal"  [class]  [^class]  .  name  ( alternatives ), each with * + ? {m} {m,} {m,n} or {,n}
escape        \\n \\r \\t \\\\ \\" \\[ \\] \\xHH \\uHHHH \\UHHHHHHHH
comment       # to the end of the line
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import InvalidRequestError

MOST_DEPTH = 64
"""Deepest nesting of parentheses."""

MOST_REPEATS = 2000
"""Largest number in braces, as in llama.cpp."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Text as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class CharacterClass:
    """One character of the ranges, both ends included; negated, one of all others."""

    negated: bool
    ranges: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """What another rule says."""

    name: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """Something `least` to `most` times; None for any number."""

    node: Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of several sequences."""

    sequences: tuple[tuple[Node, ...], ...]


Node = Literal | CharacterClass | Reference | Repeat | Alternatives

_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HEAD = re.compile(r"[A-Za-z0-9_-]+[ \t]*::=")
_COUNT = re.compile(r"\{[ \t]*(\d{0,9})[ \t]*(?:(,)[ \t]*(\d{0,9})[ \t]*)?\}")
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}


def parse_gbnf(source: str) -> dict[str, Node]:
    """The rules of a grammar by name, in their order.

    Raises:
        InvalidRequestError: it is not GBNF; the message names the line.
    """
    return _Reader(source).rules()


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._depth = 0

    def rules(self) -> dict[str, Node]:
        rules: dict[str, Node] = {}
        self._skip(_BLANK_LINES)
        while self._at < len(self._source):
            name = self._name("the name of a rule")
            self._skip(_BLANK)
            if not self._take("::="):
                raise self._problem("expected '::='")
            if name in rules:
                raise self._problem(f"there is a second rule '{name}'")
            self._skip(_BLANK_LINES)
            rules[name] = self._alternatives()
            if self._at < len(self._source) and self._source[self._at] not in "\r\n":
                raise self._problem(f"expected the end of the rule, not '{self._source[self._at]}'")
            self._skip(_BLANK_LINES)
        return rules

    def _alternatives(self) -> Node:
        sequences = [self._sequence()]
        while self._take("|"):
            self._skip(_BLANK_LINES)
            sequences.append(self._sequence())
        return Alternatives(tuple(sequences))

    def _sequence(self) -> tuple[Node, ...]:
        items: list[Node] = []
        while (item := self._item()) is not None:
            self._skip_within()
            repeated = self._repeated(item)
            if repeated is not None:
                self._skip_within()
                if self._repeated(repeated) is not None:
                    raise self._problem("two numbers of times stand one after the other; use parentheses")
            items.append(repeated or item)
        return tuple(items)

    def _item(self) -> Node | None:
        character = self._source[self._at : self._at + 1]
        match character:
            case '"':
                return self._literal()
            case "[":
                return self._class()
            case ".":
                self._at += 1
                return CharacterClass(True, ())
            case "(":
                return self._group()
            case "<" | "!":
                raise self._problem("tokens in a GBNF grammar ('<…>') are not supported; write their text as a literal")
        if not _NAME.match(character):
            return None
        if self._depth and _HEAD.match(self._source, self._at):
            raise self._problem("a parenthesis is not closed")
        return Reference(self._name("a name"))

    def _group(self) -> Node:
        self._at += 1
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise self._problem(f"parentheses are nested more than {MOST_DEPTH} levels deep")
        self._skip(_BLANK_LINES)
        inner = self._alternatives()
        if not self._take(")"):
            raise self._problem("a parenthesis is not closed")
        self._depth -= 1
        return inner

    def _repeated(self, item: Node) -> Node | None:
        for sign, least, most in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self._take(sign):
                return Repeat(item, least, most)
        if self._source[self._at : self._at + 1] != "{":
            return None
        found = _COUNT.match(self._source, self._at)
        if found is None or not (found[1] or found[3]):
            raise self._problem("expected a number of times, like {2}, {2,} or {2,5}")
        self._at = found.end()
        least = int(found[1] or 0)
        most = least if not found[2] else int(found[3]) if found[3] else None
        if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
            raise self._problem(f"numbers of times go up to {MOST_REPEATS}, the smaller first")
        return Repeat(item, least, most)

    def _literal(self) -> Node:
        self._at += 1
        text = ""
        while not self._take('"'):
            text += self._character()
        return Literal(text)

    def _class(self) -> Node:
        self._at += 1
        negated = self._take("^")
        ranges = []
        while not self._take("]"):
            low = high = self._character()
            if self._source.startswith("-", self._at) and not self._source.startswith("-]", self._at):
                self._at += 1
                high = self._character()
            if high < low:
                raise self._problem(f"the range from '{low}' to '{high}' is empty")
            ranges.append((low, high))
        return CharacterClass(negated, tuple(ranges))

    def _character(self) -> str:
        """The next character of a literal or a class."""
        character = self._source[self._at : self._at + 1]
        if character in ("", "\n", "\r"):
            raise self._problem("a literal or a class is not closed")
        self._at += 1
        if character != "\\":
            return character
        escape = self._source[self._at : self._at + 1]
        self._at += 1
        if escape in _ESCAPES:
            return _ESCAPES[escape]
        digits = self._source[self._at : self._at + _HEX_DIGITS.get(escape, 0)]
        if not re.fullmatch("[0-9a-fA-F]+", digits) or len(digits) != _HEX_DIGITS[escape]:
            raise self._problem(f"'\\{escape}' is no escape")
        code = int(digits, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._problem(f"'\\{escape}{digits}' is no character")
        self._at += len(digits)
        return chr(code)

    def _name(self, what: str) -> str:
        found = _NAME.match(self._source, self._at)
        if found is None:
            raise self._problem(f"expected {what}")
        self._at = found.end()
        return found[0]

    def _take(self, text: str) -> bool:
        found = self._source.startswith(text, self._at)
        if found:
            self._at += len(text)
        return found

    def _skip_within(self) -> None:
        """Skip blanks; line ends too, within parentheses."""
        self._skip(_BLANK_LINES if self._depth else _BLANK)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._source, self._at)
        self._at = found.end() if found else self._at

    def _problem(self, message: str) -> InvalidRequestError:
        line = self._source.count("\n", 0, self._at) + 1
        return InvalidRequestError(f"The GBNF grammar is wrong in line {line}: {message}.", param="grammar")

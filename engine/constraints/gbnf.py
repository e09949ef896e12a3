"""llama.cpp's grammar notation (GBNF), translated to llguidance's Lark.

GBNF works on characters, Lark on lexemes, each as long as possible. So whatever does not refer to itself becomes one
regular expression: the longest runs of that in a recursive rule, and the whole grammar where nothing recurs, which is
then exactly what was written. Between two lexemes of a recursive rule the first takes all it can.

Escapes and classes are those of llama.cpp. Tokens (`<think>`, `<[5]>`) are refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.constraints.gbnf_parser import Alternatives, CharacterClass, Literal, Node, Reference, Repeat, parse_gbnf
from engine.errors import InvalidRequestError

ROOT = "root"

MOST_INLINED = 1 << 20
"""Characters of a regular expression after rules have been put in the place of their names."""


def gbnf_to_lark(source: str) -> str:
    """The grammar in Lark; its rule `start` is GBNF's `root`.

    Raises:
        InvalidRequestError: it is no GBNF, names a rule it does not have, or uses what has no translation.
    """
    rules = parse_gbnf(source)
    if ROOT not in rules:
        raise InvalidRequestError("The GBNF grammar has no rule 'root', which it begins with.", param="grammar")
    return _Translation(rules).lark()


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of Lark; `regex` where it is one, to be joined with its neighbours."""

    lark: str
    regex: str | None = None


class _Translation:
    """Of one grammar."""

    def __init__(self, rules: Mapping[str, Node]) -> None:
        self._rules = rules
        self._regexes: dict[str, str] = {}
        self._names = {name: f"r{number}" for number, name in enumerate(rules)}
        for name in _without_recursion(rules):
            self._regexes[name] = self._part(rules[name]).regex or ""

    def lark(self) -> str:
        """All rules that are needed."""
        lines = [f"start: {_lark(self._part(self._rules[ROOT]))}"]
        lines += [
            f"{self._names[name]}: {_lark(self._part(self._rules[name]))}"
            for name in self._rules
            if name not in self._regexes
        ]
        return "\n".join(lines)

    def _part(self, node: Node) -> _Part:
        match node:
            case Literal(text):
                return _regex("".join(map(_character, text)))
            case CharacterClass(negated, ranges):
                return _regex(_class(ranges, negated=negated))
            case Reference(name):
                return self._reference(name)
            case Repeat(inner, least, most):
                return _repeated(self._part(inner), least, most)
            case Alternatives(sequences):
                return _one_of([_in_order([self._part(each) for each in sequence]) for sequence in sequences])

    def _reference(self, name: str) -> _Part:
        if name not in self._rules:
            raise InvalidRequestError(f"The GBNF grammar has no rule '{name}'.", param="grammar")
        return _regex(self._regexes[name]) if name in self._regexes else _Part(self._names[name])


def _without_recursion(rules: Mapping[str, Node]) -> Iterator[str]:
    """Rules that neither reach themselves nor one that does, each after those it names."""
    wanted = {name: _names_in(node) & rules.keys() for name, node in rules.items()}
    users: dict[str, list[str]] = {name: [] for name in rules}
    for name, names in wanted.items():
        for each in names:
            users[each].append(name)
    ready = deque(name for name, names in wanted.items() if not names)
    while ready:
        name = ready.popleft()
        yield name
        for user in users[name]:
            wanted[user].discard(name)
            if not wanted[user]:
                ready.append(user)


def _names_in(node: Node) -> set[str]:
    match node:
        case Reference(name):
            return {name}
        case Repeat(inner, _, _):
            return _names_in(inner)
        case Alternatives(sequences):
            return {name for sequence in sequences for each in sequence for name in _names_in(each)}
        case _:
            return set()


def _regex(pattern: str) -> _Part:
    if len(pattern) > MOST_INLINED:
        raise InvalidRequestError("The GBNF grammar is too large once its rules are put together.", param="grammar")
    return _Part("", pattern)


def _lark(part: _Part) -> str:
    if part.regex is None:
        return part.lark
    return f"/{part.regex}/" if part.regex else '""'


def _in_order(parts: list[_Part]) -> _Part:
    """One after the other; neighbouring regular expressions become one."""
    joined: list[_Part] = []
    for part in parts:
        if part.regex is not None and joined and joined[-1].regex is not None:
            joined[-1] = _regex(joined[-1].regex + part.regex)
        else:
            joined.append(part)
    if not joined:
        return _regex("")
    return joined[0] if len(joined) == 1 else _Part(" ".join(map(_lark, joined)))


def _one_of(parts: list[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    if all(part.regex is not None for part in parts):
        return _regex("(?:" + "|".join(part.regex or "" for part in parts) + ")")
    return _Part("(" + " | ".join(map(_lark, parts)) + ")")


def _repeated(part: _Part, least: int, most: int | None) -> _Part:
    bounds = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
    count = bounds or (f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}")
    if part.regex is not None:
        return _regex(f"(?:{part.regex}){count}")
    return _Part(f"({part.lark}){count}")


def _character(character: str) -> str:
    """A character in a regular expression between slashes."""
    plain = character.isascii() and character.isalnum()
    return character if plain else f"\\u{{{ord(character):x}}}"


def _class(ranges: tuple[tuple[str, str], ...], *, negated: bool) -> str:
    if not ranges:
        return r"(?s:.)" if negated else r"[^\u{0}-\u{10ffff}]"
    ends = [(_character(low), _character(high)) for low, high in ranges]
    inside = "".join(low if low == high else f"{low}-{high}" for low, high in ends)
    return f"[{'^' if negated else ''}{inside}]"

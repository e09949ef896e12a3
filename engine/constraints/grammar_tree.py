"""Grammars put together from parts, as a server writes them for tool calls. A part is an object with a `type`:

    {"type": "text", "text": "…"}                this text, not empty
    {"type": "token", "id": 5}                   this token; the only way to ask for a special one
    {"type": "json", "schema": {…}}              a JSON text that is valid against the schema
    {"type": "regex", "pattern": "…"}            a text that matches the whole expression
    {"type": "sequence", "parts": [part, …]}     one after the other
    {"type": "choice", "of": [part, …]}          one of them
    {"type": "repeat", "of": part, "separator": part or null, "min": 1, "max": 3 or null}
                                                 that many of them; the separator stands between two
    {"type": "until", "end": part or null, "without": ["…", …]}
                                                 any text, up to the first place where the end stands, which is a text
                                                 or a token, and with it. The text has none of the others in it
    {"type": "free", "parts": [{"trigger": part, "then": part}, …], "repeat": true}
                                                 any text; but as soon as it has a trigger, which is a text or a token,
                                                 one of the parts with this trigger must go on. After that the text is
                                                 free again; it ends there if `repeat` is false
    {"type": "named", "name": "…", "part": part or null}
                                                 the part, which has this name from now on; or the one that has it

Every key must be there, and no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from engine.errors import InvalidRequestError

MAX_DEPTH = 16
"""Deepest nesting of parts in parts."""

_TEXT = "/(?s:.*)/"

_KEYS: dict[str, tuple[tuple[str, type | tuple[type, ...]], ...]] = {
    "text": (("text", str),),
    "token": (("id", int),),
    "json": (("schema", (dict, bool)),),
    "regex": (("pattern", str),),
    "sequence": (("parts", list),),
    "choice": (("of", list),),
    "repeat": (("of", dict), ("separator", (dict, type(None))), ("min", int), ("max", (int, type(None)))),
    "until": (("end", (dict, type(None))), ("without", list)),
    "free": (("parts", list), ("repeat", bool)),
    "named": (("name", str), ("part", (dict, type(None)))),
}


def tree_to_lark(tree: Any, json_rule: Callable[[Any], str], regex_rule: Callable[[str], str]) -> str:
    """The grammar in Lark.

    Args:
        tree: as above.
        json_rule: from a schema to what stands for it on the right side of a rule.
        regex_rule: the same for a regular expression.

    Raises:
        InvalidRequestError: a part has another form, or cannot be honoured.
    """
    writer = _Writer(json_rule, regex_rule)
    start = writer.rule(tree, 1)
    return "\n".join([f"start: {start}", *writer.lines])


class _Writer:
    """Writes a rule for each part; equal parts share one.

    Attributes:
        lines: the rules so far.
    """

    def __init__(self, json_rule: Callable[[Any], str], regex_rule: Callable[[str], str]) -> None:
        self.lines: list[str] = []
        self._json_rule = json_rule
        self._regex_rule = regex_rule
        self._names: dict[str, str] = {}  # of rules, by the names of parts
        self._known: dict[tuple[str, bool, bool], str] = {}  # names of rules by what they say

    def rule(self, part: Any, depth: int) -> str:
        """Write what stands for a part; gives its name."""
        if depth > MAX_DEPTH:
            raise _problem(f"it is nested more than {MAX_DEPTH} levels deep")
        checked = _checked(part)
        return (
            self._by_name(checked, depth) if checked["type"] == "named" else self._named(self._body(checked, depth + 1))
        )

    def _body(self, part: dict[str, Any], depth: int) -> str:
        match part["type"]:
            case "text":
                return _literal(part["text"])
            case "token":
                return f"<[{part['id']}]>"
            case "json":
                return self._json_rule(part["schema"])
            case "regex":
                return self._regex_rule(part["pattern"])
            case "sequence":
                return " ".join(self._rules(part["parts"], depth))
            case "choice":
                return " | ".join(self._rules(part["of"], depth))
            case "repeat":
                return self._repeat(part, depth)
            case "until":
                return self._until(part)
            case _:
                return self._free(part, depth)

    def _rules(self, parts: Sequence[Any], depth: int) -> list[str]:
        if not parts:
            raise _problem("a list of parts is empty")
        return [self.rule(each, depth) for each in parts]

    def _repeat(self, part: dict[str, Any], depth: int) -> str:
        least, most = part["min"], part["max"]
        if least < 0 or (most is not None and most < max(least, 1)):
            raise _problem(f"nothing can be repeated {least} to {most} times")
        if least == 0:
            return f"({self._repeat({**part, 'min': 1}, depth)})?"
        one = self.rule(part["of"], depth)
        if most == 1:
            return one
        separator = f"{self.rule(part['separator'], depth)} " if part["separator"] is not None else ""
        return f"{one} ({separator}{one}){{{least - 1},{'' if most is None else most - 1}}}"

    def _by_name(self, part: dict[str, Any], depth: int) -> str:
        name, meant = part["name"], part["part"]
        if meant is None:
            if name not in self._names:
                raise _problem(f"no part before has the name {name!r:.40}")
        elif name in self._names:
            raise _problem(f"two parts have the name {name!r:.40}")
        else:
            self._names[name] = self.rule(meant, depth)  # a name is no level of its own
        return self._names[name]

    def _until(self, part: dict[str, Any]) -> str:
        others = part["without"]
        if not all(isinstance(each, str) for each in others):
            raise _problem("'without' of a part of type 'until' must be a list of texts")
        except_for = f" & ~({_TEXT} ({' | '.join(map(_literal, others))}) {_TEXT})" if others else ""
        text = self._named(f"{_TEXT}{except_for}", terminal=True)
        return text if part["end"] is None else self._up_to(text, part["end"], "the end of a part of type 'until'")

    def _up_to(self, text: str, end: Any, what: str) -> str:
        """A text, by its name, and what it ends with: as soon as that is there, it counts."""
        end = _checked(end)
        match end["type"]:
            case "text":
                return self._named(f"{text} {_literal(end['text'])}", lazy=True)
            case "token":
                return f"{text} <[{end['id']}]>"
        raise _problem(f"{what} must be a text or a token")

    def _free(self, part: dict[str, Any], depth: int) -> str:
        text = self._named(_TEXT, terminal=True)
        tagged = []
        for each in part["parts"]:
            if not isinstance(each, dict) or each.keys() != {"trigger", "then"}:
                raise _problem("each of the parts in a free text must have 'trigger' and 'then', and nothing else")
            head = self._up_to(text, each["trigger"], "a trigger")
            tagged.append(self._named(f"{head} {self.rule(each['then'], depth)}"))
        if not tagged:
            raise _problem("a free text has no parts")
        return f"({' | '.join(tagged)})* {text}" if part["repeat"] else f"{' | '.join(tagged)} | {text}"

    def _named(self, body: str, *, terminal: bool = False, lazy: bool = False) -> str:
        """A rule of this body; the same one where there is one already, since parts may be there many times."""
        known = self._known.get((body, terminal, lazy))
        if known is not None:
            return known
        name = f"{'PART' if terminal else 'part'}{len(self._known) + 1}"
        self._known[body, terminal, lazy] = name
        self.lines.append(f"{name}{'[lazy]' if lazy else ''}: {body}")
        return name


def _checked(part: Any) -> dict[str, Any]:
    """The part, if it has the form that its type asks for."""
    kind = part.get("type") if isinstance(part, dict) else None
    keys = _KEYS.get(kind) if isinstance(kind, str) else None
    if keys is None:
        raise _problem(f"each part must be an object with a 'type', one of {', '.join(_KEYS)}")
    if part.keys() != {"type", *(key for key, _ in keys)}:
        raise _problem(f"a part of type '{kind}' must have {' and '.join(repr(key) for key, _ in keys)}, no more")
    for key, expected in keys:
        value = part[key]
        of_type = isinstance(value, expected) and (bool in _types(expected) or not isinstance(value, bool))
        if not of_type or (key == "id" and value < 0):
            raise _problem(f"'{key}' of a part of type '{kind}' cannot be {value!r:.40}")
    return dict(part)


def _types(expected: type | tuple[type, ...]) -> tuple[type, ...]:
    return expected if isinstance(expected, tuple) else (expected,)


def _literal(text: str) -> str:
    if not text:
        raise _problem("a text is empty")
    return json.dumps(text, ensure_ascii=False)


def _problem(message: str) -> InvalidRequestError:
    return InvalidRequestError(f"The grammar tree cannot be used: {message}.", param="grammar")

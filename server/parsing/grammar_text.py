"""The grammar of a request's tool calls as the text that is sent to the engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from server.parsing.tool_format import Part

_LEAST = 60
"""Bytes of a part that are worth a name."""


def grammar_text(part: Part) -> str:
    """The JSON of a part. What is in it several times is written once, and named where it is again."""
    return json.dumps(_Shared(part).written(), ensure_ascii=False)


class _Shared:
    """Numbers all different parts of a grammar, inner ones first."""

    def __init__(self, part: Part) -> None:
        self._numbers: dict[str, int] = {}  # by their text, with numbers in place of the parts in them
        self._objects: dict[int, int] = {}  # the same by the object, which the whole keeps alive
        self._parts: list[Mapping[str, Any]] = []
        self._times: Counter[int] = Counter()
        self._named: set[int] = set()
        self._whole = self._number(part)

    def written(self) -> Mapping[str, Any]:
        """The whole, once."""
        return self._write(self._whole)

    def _number(self, part: Part) -> int:
        number = self._objects.get(id(part))
        if number is None:
            numbered = _with_parts(part, self._number)
            number = self._numbers.setdefault(json.dumps(numbered, sort_keys=True), len(self._parts))
            if number == len(self._parts):
                self._parts.append(numbered)
            self._objects[id(part)] = number
        self._times[number] += 1
        return number

    def _write(self, number: int) -> Mapping[str, Any]:
        name = str(number)
        if number in self._named:
            return {"type": "named", "name": name, "part": None}
        part = _with_parts(self._parts[number], self._write)
        if self._times[number] == 1 or len(json.dumps(part)) < _LEAST:
            return part
        self._named.add(number)
        return {"type": "named", "name": name, "part": part}


def _with_parts(part: Mapping[str, Any], change: Callable[[Any], Any]) -> Mapping[str, Any]:
    """The same with the parts directly in it changed, in the order in which they are read."""
    match part["type"]:
        case "sequence":
            return {**part, "parts": [change(each) for each in part["parts"]]}
        case "choice":
            return {**part, "of": [change(each) for each in part["of"]]}
        case "repeat":
            separator = part["separator"]
            return {**part, "of": change(part["of"]), "separator": None if separator is None else change(separator)}
        case "free":
            pairs = [{"trigger": each["trigger"], "then": change(each["then"])} for each in part["parts"]]
            return {**part, "parts": pairs}
        case _:
            return part

"""Reading one call that is written as a JSON object: `{"name": …, "arguments": {…}}`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from server.parsing.findings import Findings
from server.parsing.json_scanner import BLANKS, JsonScanner

_NAME = ("name", "function", "tool_name")
_ARGUMENTS = ("arguments", "parameters")
_KNOWN = (*_NAME, *_ARGUMENTS, "id", "type")


class CallObject:
    """Reads one object, from its opening bracket on; keys may come in any order.

    The call begins once its name is known and its arguments have begun. From then on their text is passed on exactly as
    it stands, up to where they end or break off: what was passed on cannot be taken back. Before that nothing is passed
    on, and an object that turns out to be no call can still be content. Three things are put right: arguments that are
    a JSON text within a string are unwrapped, null or no arguments become `{}`, and `{"function": {…}}`, as the OpenAI
    API nests it, is read as what is in it.

    Args:
        findings: gets the call.
        names: where an object is a call only if it has one of these names, arguments, and nothing unknown before them;
            None where every object stands for a call.

    Attributes:
        begun: the call was passed on.
        over: nothing more belongs to the object.
        whole: it ended where an object may.
    """

    def __init__(self, findings: Findings, names: Collection[str] | None = None) -> None:
        self.begun = False
        self.over = False
        self.whole = False
        self._findings = findings
        self._names = names
        self._step: Callable[[str, int], int] = self._opening
        self._depth = 0
        self._key = ""
        self._scanner = JsonScanner()
        self._value = ""  # so far, where it is not passed on
        self._streamed = False  # the value is arguments that are passed on as they come
        self._name: str | None = None
        self._call_id: str | None = None
        self._early = ""  # arguments that came before the name

    def feed(self, text: str, start: int = 0) -> int:
        """Take in more of the text; says up to which index it belongs to the object."""
        place = start
        while place < len(text) and not self.over:
            if self._step != self._in_value and self._step != self._in_key and text[place] in BLANKS:
                place += 1
            else:
                place = self._step(text, place)
        return place

    def _opening(self, text: str, place: int) -> int:
        if text[place] != "{":
            return self._broken(place)
        self._depth += 1
        self._step = self._before_key
        return place + 1

    def _before_key(self, text: str, place: int) -> int:
        if text[place] == "}":
            return self._closing(place)
        if text[place] != '"':
            return self._broken(place)
        self._scanner, self._value, self._step = JsonScanner(), "", self._in_key
        return place

    def _in_key(self, text: str, place: int) -> int:
        end = self._scanner.feed(text, place)
        self._value += text[place:end]
        if self._scanner.ended:
            key = _decoded(self._value)
            if key is None or (self._names is not None and not self.begun and key not in _KNOWN):
                return self._broken(end)
            self._key, self._step = key, self._colon
        return end

    def _colon(self, text: str, place: int) -> int:
        if text[place] != ":":
            return self._broken(place)
        self._step = self._before_value
        return place + 1

    def _before_value(self, text: str, place: int) -> int:
        self._scanner, self._value, self._step = JsonScanner(), "", self._in_value
        if text[place] == "{" and self._key == "function" and self._depth == 1:
            return self._opening(text, place)
        self._streamed = self._key in _ARGUMENTS and text[place] == "{" and not self.begun and self._name is not None
        if self._streamed:
            self._begin()
        return place

    def _in_value(self, text: str, place: int) -> int:
        end = self._scanner.feed(text, place)
        if self._streamed:
            self._findings.arguments(text[place:end])
        else:
            self._value += text[place:end]
        if self._scanner.ended:
            if not self._scanner.whole:
                return self._broken(end)
            self._step = self._behind_value
            if not self._streamed and not self._takes(self._key, self._value):
                return self._broken(end)
        return end

    def _takes(self, key: str, value: str) -> bool:
        """Remember a value that was not passed on; False if the object can be no call."""
        if key in _NAME and self._name is None:
            self._name = _decoded(value)
            if not self._name or (self._names is not None and self._name not in self._names):
                return False
        elif key == "id":
            self._call_id = _decoded(value) or None
        elif key in _ARGUMENTS and not self._early:
            self._early = _unwrapped(value)
        if self._name is not None and self._early and not self.begun:
            self._begin()
            self._findings.arguments(self._early)
        return True

    def _behind_value(self, text: str, place: int) -> int:
        if text[place] == "}":
            return self._closing(place)
        if text[place] != ",":
            return self._broken(place)
        self._step = self._before_key
        return place + 1

    def _closing(self, place: int) -> int:
        self._depth -= 1
        self._step = self._behind_value
        if self._depth == 0:
            if self._name is not None and not self.begun and self._names is None:
                self._begin()
                self._findings.arguments("{}")
            self.over, self.whole = True, self.begun
        return place + 1

    def _begin(self) -> None:
        self.begun = True
        self._findings.call(self._name or "", self._call_id)

    def _broken(self, place: int) -> int:
        self.over = True
        return place


def _decoded(value: str) -> str | None:
    """What a JSON string stands for; None if it is none."""
    try:
        text = json.loads(value, strict=False)
        if isinstance(text, str):
            text.encode()  # raises where it has half of a surrogate pair, which is no text either
            return text
    except (ValueError, RecursionError):
        pass
    return None


def _unwrapped(value: str) -> str:
    """Arguments as an object, if they were written as null or as the text of one; else as they stand."""
    if value == "null":
        return "{}"
    text = _decoded(value)
    if text is None:
        return value
    try:
        return text if isinstance(json.loads(text), dict) else value
    except (ValueError, RecursionError):
        return value

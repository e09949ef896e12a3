"""Calls as Mistral's models write them, in two notations.

Older models give a list behind the marker, newer ones a name and its arguments, with a marker for each call:

    [TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo"}}]
    [TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}

Between these, some write `[TOOL_CALLS]get_weather{…}` or `[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{…}`. Both
formats read all of these; they differ in which templates they know, and in what their grammars have models write.
Sources: the chat templates of Mistral-Nemo-Instruct-2407, Mistral-Small-3.1-24B-Instruct-2503,
Mistral-Small-3.2-24B-Instruct-2506 and Devstral-Small-2-24B-Instruct-2512.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import (
    answer_with_calls,
    arguments,
    choice,
    marker,
    regex,
    rest_of_call_list,
    sequence,
    text,
)
from server.parsing.json_region import JsonRegion
from server.parsing.json_scanner import BLANKS, JsonScanner
from server.parsing.region import RegionParser
from server.parsing.step_region import MOST_OF_A_NAME, StepRegion, next_tag, through
from server.parsing.tool_format import Demand, Part, Tool

_CALLS, _ID, _ARGUMENTS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"

_NAME = re.compile(r"[\w.:/-]*")
_CALL_ID = re.compile("[A-Za-z0-9]*")


class MistralFormat:
    """The `ToolFormat` of Mistral's models up to Mistral Small 3.1: calls are a list."""

    name = "mistral"
    markers = (_CALLS, _ID, _ARGUMENTS)

    def recognises(self, template: str) -> bool:
        """Templates with the marker of calls."""
        return _CALLS in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        return _parser()

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        opening = choice([text("["), text(" [")])  # tokenizers differ in this
        calls = sequence(opening, rest_of_call_list(tools, most=demand.most_calls))
        return answer_with_calls(demand, [(_CALLS, calls)], together=True)


class NamedMistralFormat:
    """The `ToolFormat` of Mistral's later models: each call has a marker, a name and arguments."""

    name = "mistral_named"
    markers = MistralFormat.markers

    def recognises(self, template: str) -> bool:
        """Templates that have a marker before the arguments too."""
        return _CALLS in template and _ARGUMENTS in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        return _parser()

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        before = marker(_ARGUMENTS, demand.special)
        if _ID in demand.special:
            call_id = sequence(marker(_ID, demand.special), regex("[A-Za-z0-9]{9}"))
            before = choice([before, sequence(call_id, before)])
        rest = choice([sequence(text(tool.name), before, arguments(tool)) for tool in tools])
        return answer_with_calls(demand, [(_CALLS, rest)])


def _parser() -> RegionParser:
    findings = Findings()
    return RegionParser(findings, [_CALLS], lambda opening: _Region(findings, opening))


class _Region(StepRegion):
    """What follows one marker: a list, or one name with its arguments."""

    def __init__(self, findings: Findings, opening: str) -> None:
        super().__init__(findings, opening)
        self._list: JsonRegion | None = None
        self._name = ""
        self._id: str | None = None
        self._scanner = JsonScanner()
        self._step = self._first

    def finish(self, rest: str) -> None:
        """As `Region.finish`."""
        if self._list is not None:
            self._list.finish(rest)
        else:
            super().finish(rest)

    def _first(self, text: str) -> int:
        blanks = len(text) - len(text.lstrip(BLANKS))
        if not blanks and text[0] in "[{":
            self._list = JsonRegion(self._findings, self._unread or "")
            self._unread = None
            self._step = self._in_list
        elif not blanks:
            self._step = self._in_name
        return blanks

    def _in_list(self, text: str) -> int:
        used = self._list.feed(text) if self._list is not None else 0
        self.over = self._list is None or self._list.over
        return used

    def _in_name(self, text: str) -> int:
        size = _length(_NAME, text)
        if size == len(text) <= MOST_OF_A_NAME:
            return 0  # may go on
        self._name = text[:size]
        self._step = self._behind_name if 0 < size <= MOST_OF_A_NAME else self._give_back
        return size if 0 < size <= MOST_OF_A_NAME else 0

    def _behind_name(self, text: str) -> int:
        tag = next_tag(text, ["{", _ARGUMENTS, _ID])
        if tag == "":
            return 0
        if tag is None:
            return self._give_back()
        self._step = self._in_id if tag == _ID else self._before_arguments
        return through(text, tag) - (tag == "{")

    def _in_id(self, text: str) -> int:
        size = _length(_CALL_ID, text)
        if size == len(text) <= MOST_OF_A_NAME:
            return 0
        self._id = text[:size] or None
        tag = next_tag(text[size:], [_ARGUMENTS, "{"])
        if tag == "":
            return 0
        if tag is None:
            return self._give_back()
        self._step = self._before_arguments
        return size + through(text[size:], tag) - (tag == "{")

    def _before_arguments(self, text: str) -> int:
        blanks = len(text) - len(text.lstrip(BLANKS))
        if not blanks and text[0] != "{":
            return self._give_back()
        if not blanks:
            self._call(self._name, self._id)
            self._step = self._in_arguments
        return blanks

    def _in_arguments(self, text: str) -> int:
        end = self._scanner.feed(text)
        self._findings.arguments(text[:end])
        self.over = self._scanner.ended
        return end


def _length(pattern: re.Pattern[str], text: str) -> int:
    """How much of the beginning of a text matches."""
    found = pattern.match(text)
    return found.end() if found else 0

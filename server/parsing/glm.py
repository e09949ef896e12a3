"""Calls as GLM 4.5 and its successors write them: the function's name, then keys and values in turn.

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Oslo</arg_value>
    </tool_call>

GLM 4.7 leaves the line ends out. Text arguments are taken as they stand, others are JSON. Source: the chat templates
of zai-org/GLM-4.5 and zai-org/GLM-4.6.

Under load these models leave tags out. So a value may begin without its opening tag, and it also ends before a line
with the next key or the end of the call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, choice, marker, sequence, text
from server.parsing.markers import split_at_marker
from server.parsing.region import RegionParser
from server.parsing.step_region import MOST_OF_A_NAME, next_tag, through
from server.parsing.text_values import text_arguments
from server.parsing.tool_format import Demand, Part, Tool
from server.parsing.value_region import ValueRegion

OPENING = "<tool_call>"
CLOSING = "</tool_call>"
KEY = "<arg_key>"
KEY_ENDS = "</arg_key>"
VALUE = "<arg_value>"
VALUE_ENDS = "</arg_value>"

_NAME_SO_FAR = re.compile(rf"\s*[^\s<>{{}}]{{0,{MOST_OF_A_NAME}}}\s*")
_BETWEEN = (KEY, CLOSING, OPENING)
_VALUE_ENDS = (VALUE_ENDS, f"\n{KEY}", f"\n{CLOSING}")
_KEY = re.compile(rf"[^\s<>](?:[^\n<>]{{0,{MOST_OF_A_NAME - 2}}}[^\s<>])?")


class GlmFormat:
    """The `ToolFormat` of GLM 4.5."""

    name = "glm"
    markers = (OPENING, CLOSING, KEY, KEY_ENDS, VALUE, VALUE_ENDS)

    def recognises(self, template: str) -> bool:
        """Templates that show keys and values as tags."""
        return KEY in template and VALUE in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        findings = Findings()
        parameters = {tool.name: tool.parameters for tool in tools}
        return RegionParser(findings, [OPENING], lambda opening: _Region(findings, opening, parameters))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`; what text arguments are held to says `text_value`."""
        calls = choice([sequence(text(f"{tool.name}\n"), *_arguments(tool, demand.special)) for tool in tools])
        rest = sequence(calls, marker(CLOSING, demand.special))
        return answer_with_calls(demand, [(OPENING, rest)], separator=text("\n"))


def _arguments(tool: Tool, special: Mapping[str, int]) -> list[Part]:
    begins, ends, value_begins, value_ends = (marker(tag, special) for tag in (KEY, KEY_ENDS, VALUE, VALUE_ENDS))

    def written(name: Part, value: Part) -> Part:
        return sequence(begins, name, ends, text("\n"), value_begins, value, text("\n"))

    return text_arguments(tool, _KEY, written, value_ends, _VALUE_ENDS)


class _Region(ValueRegion):
    """What is between `<tool_call>` and `</tool_call>`. What stands between arguments and is none is left out."""

    def __init__(self, findings: Findings, opening: str, parameters: Mapping[str, Mapping[str, Any] | None]) -> None:
        super().__init__(findings, opening, parameters, _BETWEEN, _VALUE_ENDS)
        self._step = self._function_name

    def _function_name(self, text: str) -> int:
        split = split_at_marker(text, (KEY, CLOSING))
        name = split.text.strip()
        if not _NAME_SO_FAR.fullmatch(split.text) or (split.marker and not name):
            return self._give_back()
        if split.marker is None:
            return 0
        self._begin_call(name)
        return len(split.text) + self._behind_tag(split.marker)

    def _behind_tag(self, tag: str) -> int:
        """Go on behind a tag; says how much of it is used."""
        if tag == KEY:
            self._step = self._key
        elif tag == VALUE_ENDS:
            self._step = self._between
        else:
            self._end_call()
            self.over = True
        return 0 if tag == OPENING else len(tag)

    def _key(self, text: str) -> int:
        split = split_at_marker(text, (KEY_ENDS, VALUE, CLOSING))
        if len(split.text) > MOST_OF_A_NAME or split.marker == CLOSING:
            self._step = self._between
            return min(len(split.text), MOST_OF_A_NAME)
        if split.marker is None:
            return 0
        self._writer.begin(split.text.strip())
        self._step = self._before_value
        return len(split.text) + (len(KEY_ENDS) if split.marker == KEY_ENDS else 0)

    def _before_value(self, text: str) -> int:
        tag = next_tag(text, [VALUE])
        if tag == "":
            return 0
        self._step = self._value
        return through(text, VALUE) if tag else 0

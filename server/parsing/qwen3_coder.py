"""Calls as Qwen3-Coder writes them, and Qwen 3.5 after it: tags with names, and plain texts between them.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>

Text parameters are taken as they stand, without the one line end at either side; others are JSON, or what Python's
`str` makes of true, false and null. Source: the chat template of Qwen/Qwen3-Coder-30B-A3B-Instruct.

Under load and in long contexts these models leave tags out. So a function of a known name is a call without the tag
around it too, and a value also ends before a line with the next parameter, or with the end of the function or call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, choice, marker, sequence, text
from server.parsing.region import RegionParser
from server.parsing.step_region import MOST_OF_A_NAME, next_tag, through
from server.parsing.text_values import text_arguments
from server.parsing.tool_format import Demand, Part, Tool
from server.parsing.value_region import ValueRegion

OPENING = "<tool_call>"
CLOSING = "</tool_call>"
FUNCTION = "<function="
FUNCTION_ENDS = "</function>"
PARAMETER = "<parameter="
PARAMETER_ENDS = "</parameter>"

_NAME = re.compile(rf"[^\s<>]{{1,{MOST_OF_A_NAME}}}")
_BETWEEN = (PARAMETER, FUNCTION_ENDS, CLOSING, FUNCTION, OPENING)
_VALUE_ENDS = (f"\n{PARAMETER_ENDS}", PARAMETER_ENDS, f"\n{PARAMETER}", f"\n{FUNCTION_ENDS}", f"\n{CLOSING}")


class Qwen3CoderFormat:
    """The `ToolFormat` of Qwen3-Coder."""

    name = "qwen3_coder"
    markers = (OPENING, CLOSING)

    def recognises(self, template: str) -> bool:
        """Templates that show functions and parameters as tags with names."""
        return FUNCTION in template and PARAMETER in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        findings = Findings()
        parameters = {tool.name: tool.parameters for tool in tools}
        bare = [f"{FUNCTION}{name}>" for name in parameters]
        return RegionParser(findings, [OPENING, *bare], lambda opening: _Region(findings, opening, parameters))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`; what text arguments are held to says `text_value`."""
        bodies = [
            (f"{FUNCTION}{tool.name}>", sequence(text("\n"), *_parameters(tool), text(FUNCTION_ENDS))) for tool in tools
        ]
        functions = choice([sequence(text(begins), body) for begins, body in bodies])
        rest = sequence(text("\n"), functions, text("\n"), marker(CLOSING, demand.special))
        return answer_with_calls(demand, [(OPENING, rest), *bodies], separator=text("\n"))


def _parameters(tool: Tool) -> list[Part]:
    def written(name: Part, value: Part) -> Part:
        return sequence(text(PARAMETER), name, text(">\n"), value, text("\n"))

    return text_arguments(tool, _NAME, written, text(f"\n{PARAMETER_ENDS}"), _VALUE_ENDS)


class _Region(ValueRegion):
    """What is between `<tool_call>` and `</tool_call>`: usually one function.

    What stands between parameters and is none is left out.
    """

    def __init__(self, findings: Findings, opening: str, parameters: Mapping[str, Mapping[str, Any] | None]) -> None:
        super().__init__(findings, opening, parameters, _BETWEEN, _VALUE_ENDS)
        self._step = self._before_function
        if opening != OPENING:
            self._begin(opening[len(FUNCTION) : -1])

    def _before_function(self, text: str) -> int:
        tag = next_tag(text, [FUNCTION])
        if tag is None:
            return self._give_back()
        if tag == "":
            return 0
        self._step = self._function_name
        return through(text, tag)

    def _function_name(self, text: str) -> int:
        name, closed, _ = text.partition(">")
        if not _NAME.fullmatch(name):
            return self._give_back() if name or closed else 0
        if not closed:
            return 0
        self._begin(name)
        return len(name) + 1

    def _begin(self, name: str) -> None:
        self._begin_call(name)
        self._step = self._between

    def _behind_tag(self, tag: str) -> int:
        """Go on behind a tag; says how much of it is used."""
        if tag == PARAMETER_ENDS:
            self._step = self._between
        elif tag == PARAMETER:
            self._step = self._parameter_name
        else:
            self._end_call()
            self._step = self._behind_function
            self.over = tag in (CLOSING, OPENING)
            if tag in (FUNCTION, OPENING):
                return 0
        return len(tag)

    def _parameter_name(self, text: str) -> int:
        name, closed, _ = text.partition(">")
        if not _NAME.fullmatch(name):
            if name or closed:
                self._step = self._between
            return 0
        if not closed:
            return 0
        self._writer.begin(name)
        self._step = self._line_end
        return len(name) + 1

    def _line_end(self, text: str) -> int:
        self._step = self._value
        return int(text[0] == "\n")

    def _behind_function(self, text: str) -> int:
        tag = next_tag(text, [CLOSING, FUNCTION])
        if tag == FUNCTION:
            self._unread = ""
            self._step = self._before_function
            return 0
        self.over = tag is None or tag == CLOSING
        return through(text, CLOSING) if tag == CLOSING else 0

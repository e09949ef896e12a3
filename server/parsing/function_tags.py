"""Calls as tags with names, and plain texts between them, in the tags of several models.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>

Text parameters are taken as they stand, others are JSON, or what Python's `str` makes of true, false and null. Under
load and in long contexts models leave tags out. So a function of a known name is a call without the tag around it too,
and a value also ends before a line with the next parameter, or with the end of the function or call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, choice, marker, repeat, sequence, text
from server.parsing.markers import split_at_marker
from server.parsing.region import RegionParser
from server.parsing.step_region import MOST_OF_A_NAME, next_tag, through
from server.parsing.text_values import text_arguments
from server.parsing.tool_format import Demand, Part, Tool
from server.parsing.value_region import ValueRegion

_NAME = re.compile(rf"[^\s<>]{{1,{MOST_OF_A_NAME}}}")


class FunctionTags(NamedTuple):
    """The tags of a notation."""

    opening: str  # before the functions
    closing: str
    function: str = "<function="  # before its name
    function_ends: str = "</function>"
    parameter: str = "<parameter="  # before its name
    parameter_ends: str = "</parameter>"
    name_ends: str = ">"  # behind the name of either
    lines: bool = False  # a value has lines of its own, and one line end at either side that is no part of it
    together: bool = False  # one opening for all functions; otherwise each has its own

    @property
    def value_ends(self) -> tuple[str, ...]:
        """What ends a value."""
        ends = (self.parameter_ends, f"\n{self.parameter}", f"\n{self.function_ends}", f"\n{self.closing}")
        return (f"\n{self.parameter_ends}", *ends) if self.lines else ends


def function_tags_parser(tags: FunctionTags, tools: Sequence[Tool]) -> RegionParser:
    """Reads one choice."""
    findings = Findings()
    parameters = {tool.name: tool.parameters for tool in tools}
    bare = [f"{tags.function}{name}{tags.name_ends}" for name in parameters]
    return RegionParser(
        findings,
        [tags.opening, *bare],
        lambda opening: FunctionTagsRegion(findings, opening, tags, parameters),
    )


def function_tags_grammar(tags: FunctionTags, tools: Sequence[Tool], demand: Demand) -> Part:
    """What an answer looks like; what text arguments are held to says `text_value`."""
    bodies = [
        (
            f"{tags.function}{tool.name}{tags.name_ends}",
            sequence(text("\n"), *_parameters(tags, tool), text(tags.function_ends)),
        )
        for tool in tools
    ]
    function = choice([sequence(text(begins), body) for begins, body in bodies])
    functions = repeat(function, text("\n"), most=demand.most_calls if tags.together else 1)
    rest = sequence(text("\n"), functions, text("\n"), marker(tags.closing, demand.special))
    ways = [(tags.opening, rest), *bodies]
    return answer_with_calls(demand, ways, separator=text("\n"), together=tags.together)


def _parameters(tags: FunctionTags, tool: Tool) -> list[Part]:
    line_end = "\n" if tags.lines else ""

    def written(name: Part, value: Part) -> Part:
        return sequence(text(tags.parameter), name, text(f"{tags.name_ends}{line_end}"), value, text("\n"))

    return text_arguments(tool, _NAME, written, text(f"{line_end}{tags.parameter_ends}"), tags.value_ends)


class FunctionTagsRegion(ValueRegion):
    """What is between the opening and the closing tag. What stands between parameters and is none is left out.

    Args:
        findings: gets the calls.
        opening: the tag before it; or all of the tag of a function, where the first is missing.
        tags: how they are written.
        parameters: JSON Schema of the arguments of each tool.
    """

    def __init__(
        self,
        findings: Findings,
        opening: str,
        tags: FunctionTags,
        parameters: Mapping[str, Mapping[str, Any] | None],
    ) -> None:
        between = (tags.parameter, tags.function_ends, tags.closing, tags.function, tags.opening)
        super().__init__(findings, opening, parameters, between, tags.value_ends)
        self._written = tags
        self._step = self._before_function
        if opening != tags.opening:
            self._begin(opening.removeprefix(tags.function).removesuffix(tags.name_ends))

    def _before_function(self, text: str) -> int:
        tag = next_tag(text, [self._written.function])
        if tag is None:
            return self._give_back()
        if tag == "":
            return 0
        self._step = self._function_name
        return through(text, tag)

    def _function_name(self, text: str) -> int:
        name, closed, _ = split_at_marker(text, [self._written.name_ends])
        if not _NAME.fullmatch(name):
            return self._give_back() if name or closed else 0
        if closed is None:
            return 0
        self._begin(name)
        return len(name) + len(closed)

    def _begin(self, name: str) -> None:
        self._begin_call(name)
        self._step = self._between

    def _behind_tag(self, tag: str) -> int:
        """Go on behind a tag; says how much of it is used."""
        if tag == self._written.parameter_ends:
            self._step = self._between
        elif tag == self._written.parameter:
            self._step = self._parameter_name
        else:
            self._end_call()
            self._step = self._behind_function
            self.over = tag in (self._written.closing, self._written.opening)
            if tag in (self._written.function, self._written.opening):
                return 0
        return len(tag)

    def _parameter_name(self, text: str) -> int:
        name, closed, _ = split_at_marker(text, [self._written.name_ends])
        if not _NAME.fullmatch(name):
            if name or closed:
                self._step = self._between
            return 0
        if closed is None:
            return 0
        self._writer.begin(name)
        self._step = self._line_end if self._written.lines else self._value
        return len(name) + len(closed)

    def _line_end(self, text: str) -> int:
        self._step = self._value
        return int(text[0] == "\n")

    def _behind_function(self, text: str) -> int:
        tag = next_tag(text, [self._written.closing, self._written.function])
        if tag == self._written.function:
            self._unread = ""
            self._step = self._before_function
            return 0
        self.over = tag is None or tag == self._written.closing
        return through(text, self._written.closing) if tag == self._written.closing else 0

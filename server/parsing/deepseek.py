"""Calls as DeepSeek V3, R1 and V3.1 write them, between special tokens.

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Oslo"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>

V3.1 has neither the word nor the fence: `get_weather<｜tool▁sep｜>{"city": "Oslo"}`. Models made of one with the
template of the other mix them, so both are read wherever they stand. Source: the chat templates of
deepseek-ai/DeepSeek-V3-0324, DeepSeek-R1 and DeepSeek-V3.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, arguments, choice, marker, repeat, sequence, text
from server.parsing.json_scanner import BLANKS, JsonScanner
from server.parsing.markers import split_at_marker
from server.parsing.region import RegionParser
from server.parsing.step_region import MOST_OF_A_NAME, StepRegion, next_tag, through
from server.parsing.tool_format import Demand, Part, Tool

CALLS_BEGIN = "<｜tool▁calls▁begin｜>"
CALLS_END = "<｜tool▁calls▁end｜>"
CALL_BEGINS = "<｜tool▁call▁begin｜>"
CALL_ENDS = "<｜tool▁call▁end｜>"
SEPARATOR = "<｜tool▁sep｜>"

_TOOLS = re.compile(r"\btools\b")
_ENDS = (CALL_ENDS, CALLS_END, CALL_BEGINS)
_NAME = re.compile(rf"\s*[^\s<>{{}}]{{0,{MOST_OF_A_NAME}}}\s*")


class DeepSeekFormat:
    """The `ToolFormat` of DeepSeek V3 and R1."""

    name = "deepseek"
    markers = (CALLS_BEGIN, CALLS_END, CALL_BEGINS, CALL_ENDS, SEPARATOR)

    def recognises(self, template: str) -> bool:
        """Templates that separate the name of a function as these do, and show tools."""
        return CALL_BEGINS in template and SEPARATOR in template and _TOOLS.search(template) is not None

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        return _parser()

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        kind = sequence(text("function"), marker(SEPARATOR, demand.special))
        calls = [sequence(kind, text(f"{tool.name}\n```json\n"), arguments(tool), text("\n```")) for tool in tools]
        return _answer(demand, choice(calls), text("\n"))


class DeepSeek31Format:
    """The `ToolFormat` of DeepSeek V3.1."""

    name = "deepseek_v31"
    markers = DeepSeekFormat.markers

    def recognises(self, template: str) -> bool:
        """Templates like those of V3 that have no fence."""
        return DeepSeekFormat().recognises(template) and "```json" not in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        return _parser()

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        separator = marker(SEPARATOR, demand.special)
        return _answer(demand, choice([sequence(text(tool.name), separator, arguments(tool)) for tool in tools]), None)


def _parser() -> RegionParser:
    findings = Findings()
    return RegionParser(findings, [CALLS_BEGIN, CALL_BEGINS], lambda opening: _Region(findings, opening))


def _answer(demand: Demand, call: Part, separator: Part | None) -> Part:
    """All calls between their markers; in free text they may begin without the outer one."""
    calls_end, begins, ends = (marker(each, demand.special) for each in (CALLS_END, CALL_BEGINS, CALL_ENDS))
    calls = repeat(sequence(begins, call, ends), separator, most=demand.most_calls)
    ways = [(CALLS_BEGIN, sequence(calls, calls_end)), (CALL_BEGINS, sequence(call, ends))]
    return answer_with_calls(demand, ways, together=True)


class _Region(StepRegion):
    """One or several calls, up to the end of all of them or to what is no call."""

    def __init__(self, findings: Findings, opening: str) -> None:
        super().__init__(findings, opening)
        self._before_separator = ""
        self._scanner = JsonScanner()
        self._step = self._before_call if opening == CALLS_BEGIN else self._first_word

    def _before_call(self, text: str) -> int:
        tag = next_tag(text, [CALL_BEGINS, CALLS_END])
        if tag is None:
            return self._give_back()
        if tag == "":
            return 0
        self.over = tag == CALLS_END
        self._step = self._first_word
        return through(text, tag)

    def _first_word(self, text: str) -> int:
        """In V3 the kind of tool, in V3.1 the name."""
        split = split_at_marker(text, [SEPARATOR])
        if not _NAME.fullmatch(split.text):
            return self._give_back()
        if split.marker is None:
            return 0
        self._before_separator = split.text.strip()
        self._step = self._behind_separator
        return len(split.text) + len(SEPARATOR)

    def _behind_separator(self, text: str) -> int:
        blanks = len(text) - len(text.lstrip(BLANKS))
        if text[blanks:].startswith(("{", "`")) and self._before_separator:
            return self._begin(self._before_separator, blanks)
        split = split_at_marker(text[blanks:], ["\n", "{", "`", *_ENDS])
        if not _NAME.fullmatch(split.text):
            return self._give_back()
        if split.marker is None:
            return 0
        name = split.text.strip() or self._before_separator
        return self._begin(name, blanks + len(split.text)) if name else self._give_back()

    def _begin(self, name: str, used: int) -> int:
        self._call(name)
        self._scanner = JsonScanner()
        self._step = self._before_arguments
        return used

    def _before_arguments(self, text: str) -> int:
        """Past the fence, if there is one."""
        place = text.find("{")
        split = split_at_marker(text, _ENDS)
        if split.marker is not None and not 0 <= place < len(split.text):
            self._findings.arguments("{}")
            self._step = self._behind_arguments
        elif place >= 0:
            self._step = self._arguments
            return place
        return len(split.text)

    def _arguments(self, text: str) -> int:
        end = self._scanner.feed(text)
        self._findings.arguments(text[:end])
        if self._scanner.ended:
            self._step = self._behind_arguments
        return end

    def _behind_arguments(self, text: str) -> int:
        split = split_at_marker(text, _ENDS)
        if split.marker is None:
            return len(split.text)
        self.over = split.marker == CALLS_END
        self._step = self._behind_call
        return len(split.text) + (0 if split.marker == CALL_BEGINS else len(split.marker))

    def _behind_call(self, text: str) -> int:
        tag = next_tag(text, [CALL_BEGINS, CALLS_END])
        if tag == CALL_BEGINS:
            self._unread = ""
            self._step = self._before_call
            return 0
        self.over = tag is None or tag == CALLS_END
        return through(text, CALLS_END) if tag == CALLS_END else 0

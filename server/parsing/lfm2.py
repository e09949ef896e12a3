"""Calls as LFM2 writes them: a list in Python's notation between special tokens.

    <|tool_call_start|>[get_weather(city="Oslo"), get_time()]<|tool_call_end|>

A system message can ask for JSON instead, which is read too. Sources: the chat templates of LiquidAI/LFM2-1.2B and
LFM2.5-8B-A1B, and https://docs.liquid.ai/docs/key-concepts/tool-use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, marker, sequence
from server.parsing.json_region import JsonRegion
from server.parsing.json_scanner import BLANKS
from server.parsing.pythonic import python_list
from server.parsing.pythonic_region import PythonicRegion
from server.parsing.region import Region, RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_OPENING, _CLOSING = "<|tool_call_start|>", "<|tool_call_end|>"


class Lfm2Format:
    """The `ToolFormat` of LFM2."""

    name = "lfm2"
    markers = (_OPENING, _CLOSING)

    def recognises(self, template: str) -> bool:
        """Templates that show calls so, or tools as those of LFM2 do that show no calls."""
        return _OPENING in template or "<|tool_list_start|>" in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        findings = Findings()
        parameters = {tool.name: tool.parameters for tool in tools}
        return RegionParser(findings, [_OPENING], lambda opening: _Region(findings, opening, parameters))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        rest = sequence(python_list(tools, demand.most_calls), marker(_CLOSING, demand.special))
        return answer_with_calls(demand, [(_OPENING, rest)], together=True)


class _Region:
    """A `Region` that is one of Python or of JSON; its first characters say which."""

    def __init__(self, findings: Findings, opening: str, tools: Mapping[str, Mapping[str, Any] | None]) -> None:
        self._python = PythonicRegion(findings, opening, _CLOSING, tools)
        self._json = JsonRegion(findings, opening, [_CLOSING])
        self._region: Region | None = None

    @property
    def over(self) -> bool:
        """As `Region.over`."""
        return self._region is not None and self._region.over

    def feed(self, text: str) -> int:
        """As `Region.feed`."""
        if self._region is None:
            begins = text.lstrip(BLANKS).removeprefix("[").lstrip(BLANKS)
            if not begins:
                return 0
            self._region = self._json if begins.startswith("{") else self._python
        return self._region.feed(text)

    def finish(self, rest: str) -> None:
        """As `Region.finish`."""
        (self._region or self._python).finish(rest)

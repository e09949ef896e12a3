"""Calls as Microsoft's Phi-4-mini writes them: a JSON list between markers.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]<|/tool_call|>

Some prompts have it write `functools[…]` instead, which is read as well. Source: the model card and the chat template
of microsoft/Phi-4-mini-instruct.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, marker, rest_of_call_list, sequence, text
from server.parsing.json_region import JsonRegion
from server.parsing.region import Region, RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_OPENING, _CLOSING = "<|tool_call|>", "<|/tool_call|>"
_FUNCTOOLS = "functools["


class Phi4Format:
    """The `ToolFormat` of Phi-4-mini."""

    name = "phi4"
    markers = (_OPENING, _CLOSING)

    def recognises(self, template: str) -> bool:
        """Templates that put tools between Phi's markers."""
        return "<|tool|>" in template and "<|/tool|>" in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        findings = Findings()

        def opened(opening: str) -> Region:
            if opening == _OPENING:
                return JsonRegion(findings, opening, [_CLOSING])
            region = JsonRegion(findings, opening.removesuffix("["))
            region.feed("[")
            return region

        return RegionParser(findings, [_OPENING, _FUNCTOOLS], opened)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        rest = rest_of_call_list(tools, most=demand.most_calls)
        native = sequence(text("["), rest, marker(_CLOSING, demand.special))
        return answer_with_calls(demand, [(_OPENING, native), (_FUNCTOOLS, rest)], together=True)

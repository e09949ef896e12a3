"""Calls as IBM's Granite 3 writes them: a marker and a JSON list.

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]

Some versions write `<tool_call>` instead. Granite 4 writes as Hermes does, and its template says so. Source: the chat
template of ibm-granite/granite-3.3-2b-instruct.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, call_list
from server.parsing.json_region import JsonRegion
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_OPENINGS = ("<|tool_call|>", "<tool_call>")


class GraniteFormat:
    """The `ToolFormat` of Granite 3."""

    name = "granite"
    markers = _OPENINGS

    def recognises(self, template: str) -> bool:
        """Templates with Granite's roles that speak of the first marker."""
        return "<|start_of_role|>" in template and _OPENINGS[0] in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        findings = Findings()
        return RegionParser(findings, _OPENINGS, lambda opening: JsonRegion(findings, opening))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        calls = call_list(tools, most=demand.most_calls)
        return answer_with_calls(demand, [(each, calls) for each in _OPENINGS], together=True)

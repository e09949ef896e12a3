"""Calls as Hermes, Qwen 2.5, Qwen 3 and many others write them: a JSON object between tags.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

Several calls follow one another. Source: the chat templates of NousResearch/Hermes-3-Llama-3.1-8B and
Qwen/Qwen2.5-7B-Instruct.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, call_object, marker, sequence, text
from server.parsing.json_region import JsonRegion
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

OPENING = "<tool_call>"
CLOSING = "</tool_call>"


class HermesFormat:
    """The `ToolFormat` of Hermes."""

    name = "hermes"
    markers = (OPENING, CLOSING)

    def recognises(self, template: str) -> bool:
        """Templates that show the tags around an object with `name` and `arguments`."""
        return OPENING in template and CLOSING in template and "arguments" in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        findings = Findings()
        return RegionParser(findings, [OPENING], lambda marker: JsonRegion(findings, marker, [CLOSING]))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        rest = sequence(text("\n"), call_object(tools), text("\n"), marker(CLOSING, demand.special))
        return answer_with_calls(demand, [(OPENING, rest)], separator=text("\n"))

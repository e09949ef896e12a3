"""Calls as xLAM writes them: a bare JSON list that is the whole answer.

    [{"name": "get_weather", "arguments": {"city": "Oslo"}}]

A list at the beginning of an answer is one of calls only if the first has the name of a tool and arguments, and nothing
unknown before these: any other JSON is an answer. Sources: the chat template of Salesforce/xLAM-2-1b-fc-r, and
vLLM's for the Llama ones, tool_chat_template_xlam_llama.jinja.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import call_list, choice, regex, sequence, until
from server.parsing.json_region import JsonRegion
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_BLANKS = r"[ \t\r\n]"
_NO_CALL = rf"{_BLANKS}*([^{{\[ \t\r\n]|\[[^{{ \t\r\n])"
"""A beginning of an answer that is read as content: no bracket, no list of objects."""


class XlamFormat:
    """The `ToolFormat` of xLAM 2."""

    name = "xlam"
    markers: tuple[str, ...] = ()

    def recognises(self, template: str) -> bool:
        """Templates that show such a list as an example."""
        return '[{"name": "tool_call_name", "arguments": {' in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        findings = Findings()
        bare = JsonRegion(findings, "", names={tool.name for tool in tools})
        return RegionParser(findings, [], lambda opening: JsonRegion(findings, opening), bare)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`. Where calls are free, an answer that begins with a bracket and an object is one."""
        calls = call_list(tools, most=demand.most_calls)
        if demand.required:
            return calls
        if demand.answer is not None:
            return choice([calls, demand.answer])
        return choice([calls, sequence(regex(_NO_CALL), until(None, [])), regex(f"{_BLANKS}*")])

"""Calls as Llama 3.1, 3.2 and 3.3 write them: a bare JSON object that is the whole answer.

    {"name": "get_weather", "parameters": {"city": "Oslo"}}

Several are separated by semicolons or line ends. `<|python_tag|>` may stand before them, and is the only way to a call
behind other text. Without it an object at the beginning of an answer is a call only if it has the name of a tool and
parameters, and nothing unknown before these: any other JSON is an answer. Source: the chat template of
meta-llama/Llama-3.1-8B-Instruct.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import call_object, choice, free, marker, regex, repeat, sequence, text
from server.parsing.json_region import JsonRegion
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_TAG = "<|python_tag|>"

_BLANKS = r"[ \t\r\n]"
_NO_CALL = rf"{_BLANKS}*([^{{\[< \t\r\n]|\[[^{{ \t\r\n]|<[^|])"
"""A beginning of an answer that is read as content: no bracket, no list of objects, no tag."""


class Llama3JsonFormat:
    """The `ToolFormat` of Llama 3."""

    name = "llama3_json"
    markers = (_TAG,)

    def recognises(self, template: str) -> bool:
        """Templates with the roles of Llama 3 that ask for `parameters` in JSON."""
        return "<|start_header_id|>" in template and '"parameters": ' in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        findings = Findings()
        bare = JsonRegion(findings, "", names={tool.name for tool in tools})
        return RegionParser(findings, [_TAG], lambda opening: JsonRegion(findings, opening), bare)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`. Where calls are free, an answer that begins with a curly bracket must be one."""
        calls = repeat(call_object(tools, "parameters"), text("; "), most=demand.most_calls)
        if demand.required:
            return calls
        spelled, special = text(_TAG), marker(_TAG, demand.special)
        tags = [spelled] if special == spelled else [spelled, special]
        tagged = sequence(choice(tags), calls)
        if demand.answer is not None:
            return choice([demand.answer, calls, tagged])
        words = sequence(regex(_NO_CALL), free([(tag, calls) for tag in tags], many=False))
        return choice([calls, tagged, words, regex(f"{_BLANKS}*")])

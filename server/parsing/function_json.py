"""Calls as functionary v3.1 and Llama 3.1 write them that are told to: a name in a tag, and a JSON object.

    <function=get_weather>{"city": "Oslo"}</function>

Sources: functionary/prompt_template/jinja_templates/v3-llama3.1.txt in MeetKai's repository, and vLLM's template
tool_chat_template_llama3.1_usr_def_tool_call.jinja.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, arguments, choice, sequence, text
from server.parsing.named_call_region import CallHead, NamedCallRegion, NamedCalls
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_OPENING, _CLOSING = "<function=", "</function>"


class FunctionJsonFormat:
    """The `ToolFormat` of functionary v3.1."""

    name = "function_json"
    markers: tuple[str, ...] = ()

    def recognises(self, template: str) -> bool:
        """Templates that show such tags and have none for parameters."""
        return _OPENING in template and _CLOSING in template and "<parameter=" not in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        findings = Findings()
        return RegionParser(findings, [_OPENING], lambda opening: NamedCallRegion(findings, opening, _NOTATION))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        rest = choice([sequence(text(f"{tool.name}>"), arguments(tool), text(_CLOSING)) for tool in tools])
        return answer_with_calls(demand, [(_OPENING, rest)])


def _head(written: str) -> CallHead | None:
    return CallHead(written) if written else None


_NOTATION = NamedCalls(begins=_OPENING, separator=">", ends=_CLOSING, head=_head)

"""Calls as Kimi K2 writes them, between special tokens.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Oslo"}
    <|tool_call_end|><|tool_calls_section_end|>

All on one line. What stands before the arguments is the id of the call, which ends with a number; the template shows
it to the model again, so it is passed on. Sources: the chat templates of moonshotai/Kimi-K2-Instruct and
Kimi-K2-Thinking, and docs/tool_call_guidance.md of MoonshotAI's repository Kimi-K2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, arguments, choice, marker, regex, repeat, sequence, text
from server.parsing.named_call_region import CallHead, NamedCallRegion, NamedCalls
from server.parsing.region import RegionParser
from server.parsing.step_region import MOST_OF_A_NAME
from server.parsing.tool_format import Demand, Part, Tool

_SECTION_BEGINS = "<|tool_calls_section_begin|>"
_SECTION_ENDS = "<|tool_calls_section_end|>"
_CALL_BEGINS = "<|tool_call_begin|>"
_ARGUMENTS = "<|tool_call_argument_begin|>"
_CALL_ENDS = "<|tool_call_end|>"

_FUNCTIONS = "functions."
_ID = re.compile(rf"(?:functions\.)?([^\s<>{{}}]{{1,{MOST_OF_A_NAME}}}?)(?::[0-9]+)?")


class KimiK2Format:
    """The `ToolFormat` of Kimi K2."""

    name = "kimi_k2"
    markers = (_SECTION_BEGINS, _SECTION_ENDS, _CALL_BEGINS, _ARGUMENTS, _CALL_ENDS)

    def recognises(self, template: str) -> bool:
        """Templates that show calls so, or declare tools as those of Kimi do that show no calls."""
        return _ARGUMENTS in template or "tool_declare<|im_middle|>" in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        findings = Findings()
        return RegionParser(
            findings,
            [_SECTION_BEGINS, _CALL_BEGINS],
            lambda opening: NamedCallRegion(findings, opening, _NOTATION),
        )

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`; in free text calls may begin without the section around them."""
        section_ends, begins, before, ends = (
            marker(each, demand.special) for each in (_SECTION_ENDS, _CALL_BEGINS, _ARGUMENTS, _CALL_ENDS)
        )
        number = regex("[0-9]{1,4}")
        call = choice(
            [sequence(text(f"{_FUNCTIONS}{tool.name}:"), number, before, arguments(tool), ends) for tool in tools]
        )
        calls = repeat(sequence(begins, call), None, most=demand.most_calls)
        ways = [(_SECTION_BEGINS, sequence(calls, section_ends)), (_CALL_BEGINS, call)]
        return answer_with_calls(demand, ways, together=True)


def _head(written: str) -> CallHead | None:
    found = _ID.fullmatch(written)
    if found is None:
        return None
    return CallHead(found[1], written if written.startswith(_FUNCTIONS) and found.end(1) < len(written) else None)


_NOTATION = NamedCalls(
    begins=_CALL_BEGINS,
    separator=_ARGUMENTS,
    ends=_CALL_ENDS,
    head=_head,
    section=(_SECTION_BEGINS, _SECTION_ENDS),
)

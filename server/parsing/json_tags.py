"""Calls as JSON objects between two tags, for models that differ in little more than what the tags are.

    <tool_calls>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]</tool_calls>        Hunyuan
    <TOOLCALL>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]</TOOLCALL>            Nemotron
    <tool_calls>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_calls>                                                                            MiniMax M1

Sources: the chat templates of tencent/Hunyuan-A13B-Instruct, nvidia/NVIDIA-Nemotron-Nano-9B-v2 and
MiniMaxAI/MiniMax-M1-40k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server.parsing.findings import Findings
from server.parsing.grammar_parts import answer_with_calls, call_list, call_object, marker, repeat, sequence, text
from server.parsing.json_region import JsonRegion
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool


@dataclass(frozen=True, slots=True)
class JsonTagsFormat:
    """A `ToolFormat` with one pair of tags around all calls.

    Attributes:
        name: as `ToolFormat.name`.
        opening: tag.
        closing: tag.
        lines: whether each call has a line of its own; otherwise they are a list.
    """

    name: str
    opening: str
    closing: str
    lines: bool = False

    @property
    def markers(self) -> tuple[str, ...]:
        """As `ToolFormat.markers`."""
        return (self.opening, self.closing)

    def recognises(self, template: str) -> bool:
        """Templates that show both tags around objects with `arguments`, and a list or none as here."""
        return (
            self.opening in template
            and self.closing in template
            and "arguments" in template
            and (f"{self.opening}[" in template) != self.lines
        )

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        findings = Findings()
        return RegionParser(findings, [self.opening], lambda tag: JsonRegion(findings, tag, [self.closing]))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        closing = marker(self.closing, demand.special)
        if self.lines:
            calls = repeat(call_object(tools), text("\n"), most=demand.most_calls)
            rest = sequence(text("\n"), calls, text("\n"), closing)
        else:
            rest = sequence(call_list(tools, most=demand.most_calls), closing)
        return answer_with_calls(demand, [(self.opening, rest)], together=True)


HUNYUAN = JsonTagsFormat("hunyuan", "<tool_calls>", "</tool_calls>")
MINIMAX_M1 = JsonTagsFormat("minimax_m1", "<tool_calls>", "</tool_calls>", lines=True)
NEMOTRON = JsonTagsFormat("nemotron", "<TOOLCALL>", "</TOOLCALL>")

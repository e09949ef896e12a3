"""Calls as MiniMax M2 writes them: tags with names as attributes, and plain texts between them.

    <minimax:tool_call>
    <invoke name="get_weather">
    <parameter name="city">Oslo</parameter>
    </invoke>
    </minimax:tool_call>

Several functions stand within one pair of tags. Source: the chat template of MiniMaxAI/MiniMax-M2.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.function_tags import FunctionTags, function_tags_grammar, function_tags_parser
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_TAGS = FunctionTags(
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    function='<invoke name="',
    function_ends="</invoke>",
    parameter='<parameter name="',
    name_ends='">',
    together=True,
)


class MiniMaxM2Format:
    """The `ToolFormat` of MiniMax M2."""

    name = "minimax_m2"
    markers = (_TAGS.opening, _TAGS.closing)

    def recognises(self, template: str) -> bool:
        """Templates that speak of the outer tag and show such functions."""
        return _TAGS.opening in template and _TAGS.function in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        return function_tags_parser(_TAGS, tools)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        return function_tags_grammar(_TAGS, tools, demand)

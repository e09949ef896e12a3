"""Calls as Qwen3-Coder writes them, and Qwen 3.5 after it: tags with names, and plain texts between them.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Oslo
    </parameter>
    </function>
    </tool_call>

Source: the chat template of Qwen/Qwen3-Coder-30B-A3B-Instruct.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.function_tags import FunctionTags, function_tags_grammar, function_tags_parser
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_TAGS = FunctionTags("<tool_call>", "</tool_call>", lines=True)


class Qwen3CoderFormat:
    """The `ToolFormat` of Qwen3-Coder."""

    name = "qwen3_coder"
    markers = (_TAGS.opening, _TAGS.closing)

    def recognises(self, template: str) -> bool:
        """Templates that show functions and parameters as tags with names."""
        return _TAGS.function in template and _TAGS.parameter in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        return function_tags_parser(_TAGS, tools)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        return function_tags_grammar(_TAGS, tools, demand)

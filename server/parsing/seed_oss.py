"""Calls as Seed-OSS writes them: as Qwen3-Coder does, with tags of its own around them and values without line ends.

    <seed:tool_call>
    <function=get_weather>
    <parameter=city>Oslo</parameter>
    </function>
    </seed:tool_call>

Source: the chat template of ByteDance-Seed/Seed-OSS-36B-Instruct.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.parsing.function_tags import FunctionTags, function_tags_grammar, function_tags_parser
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_TAGS = FunctionTags("<seed:tool_call>", "</seed:tool_call>")


class SeedOssFormat:
    """The `ToolFormat` of Seed-OSS."""

    name = "seed_oss"
    markers = (_TAGS.opening, _TAGS.closing)

    def recognises(self, template: str) -> bool:
        """Templates that speak of the outer tag."""
        return _TAGS.opening in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        return function_tags_parser(_TAGS, tools)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`."""
        return function_tags_grammar(_TAGS, tools, demand)

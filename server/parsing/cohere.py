"""Calls as Cohere's Command R7B and Command A write them: a JSON list between special tokens.

    <|START_ACTION|>[
        {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Oslo"}}
    ]<|END_ACTION|>

An answer stands between `<|START_RESPONSE|>` and `<|END_RESPONSE|>`, also where there are no tools; these are no
content. The ids count the calls of a conversation. Templates make them anew from the order of the calls, so they are
not passed on. Source: the chat template for tool use of CohereForAI/c4ai-command-r7b-12-2024.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from server.parsing.findings import Findings
from server.parsing.grammar_parts import (
    answer_with_calls,
    arguments,
    choice,
    marker,
    regex,
    repeat,
    sequence,
    text,
)
from server.parsing.json_region import JsonRegion
from server.parsing.region import Region, RegionParser
from server.parsing.tool_format import Demand, Part, Tool

_OPENING, _CLOSING = "<|START_ACTION|>", "<|END_ACTION|>"
_ANSWER, _ANSWER_ENDS = "<|START_RESPONSE|>", "<|END_RESPONSE|>"


class CohereFormat:
    """The `ToolFormat` of Command R7B and Command A."""

    name = "cohere"
    markers = (_OPENING, _CLOSING, _ANSWER, _ANSWER_ENDS)

    def recognises(self, template: str) -> bool:
        """Templates that show calls so."""
        return _OPENING in template and _CLOSING in template and "tool_name" in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:  # noqa: ARG002  (part of the protocol)
        """As `ToolFormat.parser`."""
        findings = Findings()

        def opened(opening: str) -> Region:
            return JsonRegion(findings, opening, [_CLOSING]) if opening == _OPENING else _Nothing()

        return RegionParser(findings, [_OPENING, _ANSWER, _ANSWER_ENDS], opened)

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`. An answer of a given form may stand between its markers."""
        number = sequence(text('{"tool_call_id": "'), regex("[0-9]{1,4}"), text('", "tool_name": '))
        called = choice(
            [sequence(text(f'{json.dumps(tool.name)}, "parameters": '), arguments(tool), text("}")) for tool in tools]
        )
        calls = repeat(sequence(number, called), text(",\n    "), most=demand.most_calls)
        rest = sequence(text("[\n    "), calls, text("\n]"), marker(_CLOSING, demand.special))
        if demand.answer is not None:
            framed = sequence(marker(_ANSWER, demand.special), demand.answer, marker(_ANSWER_ENDS, demand.special))
            demand = demand._replace(answer=choice([demand.answer, framed]))
        return answer_with_calls(demand, [(_OPENING, rest)], together=True)


class _Nothing:
    """A `Region` of a marker that stands alone."""

    over = True

    def feed(self, text: str) -> int:  # noqa: ARG002  (part of the protocol)
        """Nothing belongs to it."""
        return 0

    def finish(self, rest: str) -> None:
        """There is nothing to end."""

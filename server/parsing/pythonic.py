"""Calls as Llama 3.2 and Llama 4 write them if the prompt asks for Python: `[get_weather(city="Oslo"), get_time()]`.

The list is the whole answer, or stands behind `<|python_start|>` or `<|python_tag|>`. At the beginning of an answer it
is one only if the first name is that of a tool. Sources: https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_2/
and vLLM's templates tool_chat_template_llama3.2_pythonic.jinja and tool_chat_template_llama4_pythonic.jinja.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from server.parsing.argument_types import argument_types, type_of
from server.parsing.findings import Findings
from server.parsing.grammar_parts import choice, json_value, optional, regex, repeat, sequence, text, until
from server.parsing.named_arguments import ANY_NAME, NamedArgument, is_open, named_arguments, with_definitions
from server.parsing.pythonic_region import ARGUMENT_NAME, PythonicRegion
from server.parsing.region import RegionParser
from server.parsing.tool_format import Demand, Part, Tool

OPENINGS = ("<|python_start|>", "<|python_tag|>")
CLOSING = "<|python_end|>"

_SINGLE_QUOTED = r"'(?:[^'\\\n]|\\['\"\\nrt])*'"


class PythonicFormat:
    """The `ToolFormat` of Llama models that are prompted for Python."""

    name = "pythonic"
    markers = (*OPENINGS, CLOSING)

    def recognises(self, template: str) -> bool:
        """Templates that show functions in brackets as an example."""
        return "[func_name1(" in template

    def parser(self, tools: Sequence[Tool]) -> RegionParser:
        """As `ToolFormat.parser`."""
        findings = Findings()
        parameters = {tool.name: tool.parameters for tool in tools}

        def opened(opening: str) -> PythonicRegion:
            return PythonicRegion(findings, opening, CLOSING, parameters)

        return RegionParser(findings, OPENINGS, opened, first=opened(""))

    def grammar(self, tools: Sequence[Tool], demand: Demand) -> Part:
        """As `ToolFormat.grammar`: calls, or a text that neither begins with a bracket nor has a marker in it."""
        whole = python_list(tools, demand.most_calls)
        if demand.required:
            return whole
        if demand.answer is not None:
            return choice([whole, demand.answer])
        first = choice([regex(r"[^\s\[<]"), regex(r"<[^\s|]")])
        return choice([whole, sequence(first, until(None, OPENINGS))])


def python_list(tools: Sequence[Tool], most: int) -> Part:
    """A list of calls of these tools, so many at most."""
    return sequence(text("["), repeat(choice([_call(tool) for tool in tools]), text(", "), most=most), text("]"))


def _call(tool: Tool) -> Part:
    if is_open(tool):
        one = sequence(regex(ANY_NAME), text("="), json_value({}))
        return sequence(text(f"{tool.name}("), optional(repeat(one, text(", "), most=None)), text(")"))
    arguments = named_arguments(tool, ARGUMENT_NAME)
    parts = [sequence(text(f"{each.name}="), _value(tool, each)) for each in arguments]
    needed = [each.required for each in arguments]
    return sequence(text(f"{tool.name}("), *_with_commas(parts, needed), text(")"))


def _with_commas(parts: Sequence[Part], needed: Sequence[bool]) -> list[Part]:
    """Parts of which some may be left out, with commas between those that are there."""
    following = [sequence(text(", "), part) for part in parts]
    following = [part if must else optional(part) for part, must in zip(following, needed, strict=True)]
    if True in needed:
        first = needed.index(True)
        return [
            *(optional(sequence(part, text(", "))) for part in parts[:first]),
            parts[first],
            *following[first + 1 :],
        ]
    ways = [sequence(part, *following[index + 1 :]) for index, part in enumerate(parts)]
    return [optional(choice(ways))] if ways else []


def _value(tool: Tool, argument: NamedArgument) -> Part:
    types = argument_types(tool.parameters, argument.name)
    values = [True, False] if argument.keywords == ["type"] and types == {"boolean"} else argument.values
    fitting = [value for value in values or () if type_of(value) in types]
    if fitting and not set(argument.keywords) - {"type", "enum", "const"}:
        return choice([text(_literal(value)) for value in fitting])
    json_form = json_value(with_definitions(argument.schema, tool.parameters))
    plain = argument.keywords == ["type"] and "string" in types
    return choice([json_form, regex(_SINGLE_QUOTED)]) if plain else json_form


def _literal(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, bool) else json.dumps(value, ensure_ascii=False)

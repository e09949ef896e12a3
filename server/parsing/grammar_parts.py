"""What grammars of tool calls are made of: the parts that `engine/constraints/grammar_tree.py` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from server.parsing.schema_annotations import without_annotations
from server.parsing.tool_format import Demand, Part, Tool


def text(value: str) -> Part:
    """Exactly this text."""
    return {"type": "text", "text": value}


def marker(value: str, special: Mapping[str, int]) -> Part:
    """A marker, as the special token it is for this model or as text."""
    return {"type": "token", "id": special[value]} if value in special else text(value)


def json_value(schema: Mapping[str, Any]) -> Part:
    """A JSON text that is valid against the schema."""
    return {"type": "json", "schema": schema}


def regex(pattern: str) -> Part:
    """A text that matches the whole expression."""
    return {"type": "regex", "pattern": pattern}


def sequence(*parts: Part) -> Part:
    """One part after the other."""
    return {"type": "sequence", "parts": parts}


def choice(parts: Sequence[Part]) -> Part:
    """One of the parts."""
    return {"type": "choice", "of": parts}


def repeat(part: Part, separator: Part | None, *, most: int | None) -> Part:
    """The part once or more often, up to so many times."""
    return {"type": "repeat", "of": part, "separator": separator, "min": 1, "max": most}


def optional(part: Part) -> Part:
    """The part, or nothing."""
    return {"type": "repeat", "of": part, "separator": None, "min": 0, "max": 1}


def any_number(part: Part) -> Part:
    """The part as often as it likes, or not at all."""
    return {"type": "repeat", "of": part, "separator": None, "min": 0, "max": None}


def until(end: Part | None, without: Sequence[str]) -> Part:
    """Any text that has none of these in it, up to the end, a text or a token, and with it; or with no end."""
    return {"type": "until", "end": end, "without": list(without)}


def free(parts: Sequence[tuple[Part, Part]], *, many: bool) -> Part:
    """Any text; but a trigger, the first of a pair, must be followed by the second. Once, or as often as it likes."""
    return {"type": "free", "parts": [{"trigger": first, "then": then} for first, then in parts], "repeat": many}


def arguments(tool: Tool) -> Part:
    """The arguments of a tool: an object, valid against its schema if it has one."""
    return json_value({"type": "object", **without_annotations(tool.parameters or {})})


def call_object(tools: Sequence[Tool], key: str = "arguments") -> Part:
    """`{"name": …, "arguments": …}`, with the one blank that templates write behind a colon."""
    return choice(
        [sequence(text(f'{{"name": {json.dumps(tool.name)}, "{key}": '), arguments(tool), text("}")) for tool in tools]
    )


def call_list(tools: Sequence[Tool], *, most: int) -> Part:
    """`[{"name": …, "arguments": …}, …]`."""
    return sequence(text("["), rest_of_call_list(tools, most=most))


def rest_of_call_list(tools: Sequence[Tool], *, most: int) -> Part:
    """The same, behind its opening bracket."""
    return sequence(repeat(call_object(tools), text(", "), most=most), text("]"))


def answer_with_calls(
    demand: Demand, ways: Sequence[tuple[str, Part]], *, separator: Part | None = None, together: bool = False
) -> Part:
    """The whole answer, for formats in which a call can be told by how it begins.

    Args:
        demand: what is asked of it.
        ways: to write a call: the marker it begins with, and the rest of it. Calls that are required are written in the
            first way.
        separator: between two calls.
        together: one call has them all, as a list.
    """
    if not demand.required and demand.answer is None:
        special = [(marker(opening, demand.special), rest) for opening, rest in ways if opening in demand.special]
        # parsers take the spelling of a special token for it
        return free([*special, *((text(opening), rest) for opening, rest in ways)], many=demand.parallel)
    opening, rest = ways[0]
    one = sequence(marker(opening, demand.special), rest)
    calls = repeat(one, separator, most=1 if together else demand.most_calls)
    return calls if demand.required or demand.answer is None else choice([demand.answer, calls])

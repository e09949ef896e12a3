"""What grammars of tool calls are made of: the parts that `engine/constraints/grammar_tree.py` reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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


def free(trigger: Part, then: Part, *, many: bool) -> Part:
    """Any text; where it has the trigger, this must go on. Once, or as often as it likes."""
    return {"type": "free", "parts": [{"trigger": trigger, "then": then}], "repeat": many}


def arguments(tool: Tool) -> Part:
    """The arguments of a tool: an object, valid against its schema if it has one."""
    return json_value({"type": "object", **(tool.parameters or {})})


def call_object(tools: Sequence[Tool], key: str = "arguments") -> Part:
    """`{"name": …, "arguments": …}`, with the one blank that templates write behind a colon."""
    return choice(
        [sequence(text(f'{{"name": {json.dumps(tool.name)}, "{key}": '), arguments(tool), text("}")) for tool in tools]
    )


def call_list(tools: Sequence[Tool], *, parallel: bool) -> Part:
    """`[{"name": …, "arguments": …}, …]`."""
    return sequence(text("["), repeat(call_object(tools), text(", "), most=None if parallel else 1), text("]"))


def answer_with_calls(demand: Demand, opening: Part, rest: Part, separator: Part | None) -> Part:
    """The whole answer, for formats in which a call can be told by how it begins.

    Args:
        demand: what is asked of it.
        opening: a text or a token that every call begins with, and nothing else.
        rest: of the call.
        separator: between two calls; None if `opening` and `rest` have all the calls.
    """
    many = demand.parallel and separator is not None
    if not demand.required and demand.answer is None:
        return free(opening, rest, many=demand.parallel)
    calls = repeat(sequence(opening, rest), separator, most=None if many else 1)
    return calls if demand.required or demand.answer is None else choice([demand.answer, calls])

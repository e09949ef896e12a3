"""Grammars of arguments that are written as plain texts, for notations that put them between tags."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.parsing.argument_types import argument_types
from server.parsing.argument_writer import text_to_json
from server.parsing.grammar_parts import any_number, choice, json_value, optional, regex, sequence, text, until
from server.parsing.named_arguments import (
    ANY_NAME,
    NamedArgument,
    asked_by,
    cannot_be_strict,
    is_open,
    named_arguments,
    with_definitions,
)
from server.parsing.tool_format import Part, Tool


def text_arguments(
    tool: Tool, names: re.Pattern[str], write: Callable[[Part, Part], Part], end: Part, tags: Sequence[str]
) -> list[Part]:
    """The arguments of a tool, in the order of its schema, those that may be left out among them.

    Args:
        tool: whose.
        names: as for `named_arguments`.
        write: from the name and the value with its tag to the whole argument.
        end: as for `text_value`.
        tags: as for `text_value`.

    Raises:
        InvalidRequestError: as `named_arguments` and `text_value`.
    """
    if is_open(tool):
        return [any_number(write(regex(ANY_NAME), until(end, tags)))]
    arguments = [
        (write(text(each.name), text_value(tool, each, end, tags)), each.required)
        for each in named_arguments(tool, names)
    ]
    return [part if required else optional(part) for part, required in arguments]


def text_value(tool: Tool, argument: NamedArgument, end: Part, tags: Sequence[str]) -> Part:
    """The value of an argument, and the tag behind it.

    Texts may be anything where the schema wants more of them than the type; of a strict tool that is refused.

    Args:
        tool: it belongs to.
        argument: as the schema names it.
        end: the tag, a text or a token.
        tags: what a parser takes for the end of the value; no value has them in it.

    Raises:
        InvalidRequestError: the tool is strict, and not every text is valid.
    """
    types = argument_types(tool.parameters, argument.name)
    written = {_as_text(value): value for value in argument.values or ()}
    fitting = [
        each
        for each, value in written.items()
        if _same(json.loads(text_to_json(each, types)), value) and not any(tag in each for tag in tags)
    ]
    if fitting and not (tool.strict and set(argument.keywords) - {"type", "enum", "const"}):
        return choice([sequence(text(each), end) if each else end for each in fitting])
    if "string" not in types:
        return sequence(json_value(with_definitions(argument.schema, tool.parameters)), end)
    if tool.strict and not _takes_any_text(argument.schema):
        raise cannot_be_strict(tool, f"the text '{argument.name}' to {' and '.join(map(repr, argument.keywords))}")
    return until(end, tags)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON, where true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _takes_any_text(schema: Any) -> bool:
    """Whether every text is valid, as a string or as what else it is read as."""
    if not isinstance(schema, Mapping):
        return schema is not False
    asked = asked_by(schema)
    if asked == ["anyOf"] and isinstance(schema["anyOf"], list):
        plain = all(asked_by(each) == ["type"] for each in schema["anyOf"])
        return plain and any(_takes_any_text(each) for each in schema["anyOf"])
    type_ = schema.get("type")
    return not asked or (asked == ["type"] and "string" in (type_ if isinstance(type_, list) else [type_]))

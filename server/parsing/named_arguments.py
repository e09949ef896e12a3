"""Arguments one by one, for notations in which a call has names and values rather than one JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.errors import InvalidRequestError
from server.parsing.tool_format import Tool

ASSERTIONS = frozenset(
    re.findall(
        r"\S+",
        """
        type enum const multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern format
        items prefixItems additionalItems unevaluatedItems maxItems minItems uniqueItems contains minContains
        maxContains properties required patternProperties additionalProperties unevaluatedProperties propertyNames
        maxProperties minProperties dependencies dependentRequired dependentSchemas allOf anyOf oneOf not if then else
        nullable $ref $dynamicRef $recursiveRef
        """,
    )
)
"""Keywords that ask something of a value; JSON Schema has validators ignore those they do not know."""

ANY_NAME = "[A-Za-z_][A-Za-z0-9_]{0,40}"
"""Names of arguments that no schema names, as a regular expression."""

_HONOURED = {"type", "properties", "required", "additionalProperties"}


class NamedArgument(NamedTuple):
    """An argument a call may have."""

    name: str
    schema: Any
    required: bool

    @property
    def values(self) -> list[Any] | None:
        """All values it may have, if its schema names them."""
        if not isinstance(self.schema, Mapping):
            return None
        named = self.schema.get("enum", [self.schema["const"]] if "const" in self.schema else None)
        return named if isinstance(named, list) else None

    @property
    def keywords(self) -> list[str]:
        """What the schema asks of a value."""
        return asked_by(self.schema)


def asked_by(schema: Any) -> list[str]:
    """The keywords of a schema that ask something of a value."""
    return sorted(schema.keys() & ASSERTIONS) if isinstance(schema, Mapping) else []


def is_open(tool: Tool) -> bool:
    """Whether the schema of a tool names no arguments, so that any may come."""
    parameters = tool.parameters
    return parameters is None or (
        "properties" not in parameters and parameters.get("additionalProperties") is not False
    )


def named_arguments(tool: Tool, names: re.Pattern[str]) -> list[NamedArgument]:
    """The arguments that the schema of a tool names; references to the definitions beside them are followed.

    Args:
        tool: whose.
        names: that can be written. Arguments with other names are left out where they may be.

    Raises:
        InvalidRequestError: the tool is strict, and its schema asks for more than can be honoured one by one; or a name
            that is required cannot be written.
    """
    root = tool.parameters or {}
    if tool.strict:
        for keyword in asked_by(root):
            if keyword not in _HONOURED:
                raise cannot_be_strict(tool, f"its arguments to '{keyword}'")
    properties = root.get("properties") or {}
    required = root.get("required") or ()
    others = root.get("additionalProperties", True)
    schemas = {**properties, **{name: others for name in required if name not in properties}}
    for name in required:
        if not names.fullmatch(name):
            raise InvalidRequestError(
                f"The argument '{name}' of the tool '{tool.name}' cannot be written in the notation this model writes "
                "calls in. Give it another name, of letters, digits and underscores.",
                param="tools",
            )
    return [
        NamedArgument(name, _resolved(schema, root), name in required)
        for name, schema in schemas.items()
        if names.fullmatch(name)
    ]


def with_definitions(schema: Any, root: Mapping[str, Any] | None) -> Any:
    """A schema that stands for itself: with the definitions of the whole it is from, if it refers to any."""
    if root is None or not isinstance(schema, Mapping) or '"$ref"' not in json.dumps(schema):
        return schema
    return {**{key: root[key] for key in ("$defs", "definitions") if key in root}, **schema}


def cannot_be_strict(tool: Tool, what: str) -> InvalidRequestError:
    """The error for a tool whose schema cannot be honoured in full."""
    return InvalidRequestError(
        f"The tool '{tool.name}' is strict, but in the notation this model writes calls in nothing can hold {what}. "
        "Leave that out of the schema, or send the tool without 'strict'.",
        param="tools",
    )


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """What a schema that is nothing but a reference to a definition stands for."""
    for _ in range(10):
        if asked_by(schema) != ["$ref"]:
            break
        kind, _, name = str(schema["$ref"]).removeprefix("#/").partition("/")
        definitions = root.get(kind) if kind in ("$defs", "definitions") else None
        if not isinstance(definitions, Mapping) or name not in definitions:
            break
        schema = definitions[name]
    return schema

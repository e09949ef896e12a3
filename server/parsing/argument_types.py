"""Of which JSON types an argument may be, as the schema of its tool says.

Formats that do not write arguments as JSON write the text `5` for the number and for the string alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Types: TypeAlias = frozenset[str]

ANY: Types = frozenset({"string", "number", "integer", "boolean", "null", "array", "object"})
STRING: Types = frozenset({"string"})

MOST_SCHEMAS = 500
"""Schemas looked at for one argument; the others leave its type open."""

MOST_NESTED = 20
"""Schemas within each other, or that refer to each other."""


def argument_types(parameters: Mapping[str, Any] | None, name: str) -> Types:
    """The types argument `name` may have; all of them where the schema does not say.

    Args:
        parameters: JSON Schema of the arguments, an object.
        name: the argument's.
    """
    if parameters is None:
        return ANY
    return _Reader(parameters).of_argument(name)


def type_of(value: Any) -> str:
    """The narrowest JSON type of a value as `json` reads it."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "integer" if value == value // 1 else "number"


def read_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refused, parse_int=_integer)
    except RecursionError as problem:
        raise ValueError("nested too deeply") from problem


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _integer(text: str) -> int:
    return int(text) if len(text) < 400 else 0  # its value does not matter, and a long one takes long


class _Reader:
    """Reads the schema of one tool's arguments, and no more than so many of its parts."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = MOST_SCHEMAS

    def of_argument(self, name: str) -> Types:
        return _both([self._types(schema, 0) for schema in self._of_property(self._root, name, 0)])

    def _of_property(self, schema: Any, name: str, depth: int) -> Iterable[Any]:
        """The schemas for a property of an object that follows `schema`."""
        if not isinstance(schema, Mapping) or not self._may_look_at(depth):
            return
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and name in properties:
            yield properties[name]
        elif "additionalProperties" in schema:
            yield schema["additionalProperties"]
        for part in self._parts_that_hold(schema):
            yield from self._of_property(part, name, depth + 1)

    def _types(self, schema: Any, depth: int) -> Types:
        if not isinstance(schema, Mapping) or not self._may_look_at(depth):
            return ANY
        found = [_named(schema.get("type"))]
        if isinstance(schema.get("enum"), list):
            found.append(_of_values(schema["enum"]))
        if "const" in schema:
            found.append(_of_values([schema["const"]]))
        unions = [schema[key] for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list)]
        found += [frozenset[str]().union(*(self._types(each, depth + 1) for each in union)) for union in unions]
        found += [self._types(part, depth + 1) for part in self._parts_that_hold(schema)]
        types = _both(found)
        return types | {"null"} if schema.get("nullable") is True else types

    def _may_look_at(self, depth: int) -> bool:
        self._left -= 1
        return self._left >= 0 and depth < MOST_NESTED

    def _parts_that_hold(self, schema: Mapping[str, Any]) -> list[Any]:
        parts = list(schema["allOf"]) if isinstance(schema.get("allOf"), list) else []
        if isinstance(schema.get("$ref"), str):
            parts.append(self._target(schema["$ref"]))
        return parts

    def _target(self, reference: str) -> Any:
        """What a reference within this schema leads to; None if it leads nowhere."""
        if not reference.startswith("#"):
            return None
        found: Any = self._root
        for key in reference[1:].split("/")[1:]:
            key = key.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


def _named(type_: Any) -> Types:
    """Types by the names of a schema."""
    names = {each for each in (type_ if isinstance(type_, list) else [type_]) if isinstance(each, str)}
    if "number" in names:
        names.add("integer")
    return frozenset(names & ANY) or ANY


def _of_values(values: Iterable[Any]) -> Types:
    return _named([type_of(value) for value in values])


def _both(found: Iterable[Types]) -> Types:
    """The types that all allow; where a schema contradicts itself, any."""
    return ANY.intersection(*found) or ANY

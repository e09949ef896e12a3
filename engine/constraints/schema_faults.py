"""What is wrong with a JSON Schema that llguidance has refused, and where in it: llguidance does not say the place.

Nothing is refused here. What llguidance takes is not looked at, so that this need not know all of JSON Schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

MOST_QUOTED = 100
"""Characters of a value that a message shows."""

MOST_PLACES = 5
"""That a message names, where it may be any of them."""

_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_IN_A_LIST = ("anyOf", "allOf", "oneOf", "prefixItems")
_ALONE = ("items", "additionalProperties")


class _Form(NamedTuple):
    """What the value of a keyword must be."""

    words: str
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_OBJECT = _Form("an object", lambda value: isinstance(value, dict))
_ARRAY = _Form("an array", lambda value: isinstance(value, list))
_TEXT = _Form("a string", lambda value: isinstance(value, str))
_NUMBER = _Form("a number", _is_number)
_COUNT = _Form("a whole number from 0", lambda value: _is_number(value) and value >= 0 and value == int(value))
_FORMS: Mapping[str, _Form] = {
    **dict.fromkeys(_BY_NAME, _OBJECT),
    **dict.fromkeys(("enum", "required", *_IN_A_LIST), _ARRAY),
    **dict.fromkeys(("$ref", "pattern", "format"), _TEXT),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _NUMBER),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _COUNT),
}
_RANGES = (
    *(("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")),
    *(("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties")),
)
_UNKNOWN_KEYS = re.compile(r"Unimplemented keys: (\[.*?\])")
_SAID = re.compile(r"(?:Unknown format: (?P<format>\S+?)|regex parse error: .*)\.?$", re.DOTALL)


class _Part(NamedTuple):
    """A schema within a schema, and the JSON pointer to it."""

    place: str
    schema: Any


def schema_fault(schema: Any, said: str) -> str | None:
    """The fault, with its place as a JSON pointer; None if it cannot be told.

    Args:
        schema: that was refused.
        said: why, in llguidance's words.
    """
    parts = list(_parts(schema))
    if said.startswith("oneOf "):
        places = [f"'{part.place}/oneOf'" for part in parts if isinstance(part.schema, dict) and "oneOf" in part.schema]
        return f"{' or '.join(places[:MOST_PLACES])}: {said}." if places else None
    faults = (*(_fault_that_was_said(part, said) for part in parts), *(_fault(part, schema) for part in parts))
    return next(filter(None, faults), None)


def _parts(schema: Any, place: str = "#") -> Iterator[_Part]:
    """The schema and those in it, from the outside to the inside."""
    yield _Part(place, schema)
    if not isinstance(schema, dict):
        return
    for keyword in (*_BY_NAME, *_IN_A_LIST, *_ALONE):
        value = schema.get(keyword)
        steps: Iterator[tuple[Any, Any]] = iter(())
        if keyword in _BY_NAME and isinstance(value, dict):
            steps = iter(value.items())
        elif keyword not in _BY_NAME and isinstance(value, list):
            steps = iter(enumerate(value))
        elif keyword in _ALONE and keyword in schema:
            yield from _parts(value, f"{place}/{keyword}")
        for step, child in steps:
            yield from _parts(child, f"{place}/{keyword}/{_escaped(str(step))}")


def _fault(part: _Part, root: Any) -> str | None:
    place, schema = part
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"'{place}' must be an object, true or false, not {_quoted(schema)}."
    for keyword, form in _FORMS.items():
        if keyword in schema and not form.fits(schema[keyword]):
            return f"'{place}/{keyword}' must be {form.words}, not {_quoted(schema[keyword])}."
    return _type_fault(part) or _emptiness(part) or _reference_fault(part, root)


def _type_fault(part: _Part) -> str | None:
    types = part.schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if name not in _TYPES:
            return f"'{part.place}/type': {_quoted(name)} is none of {', '.join(_TYPES)}."
    return None


def _emptiness(part: _Part) -> str | None:
    """Why nothing can be valid, where that is plain to see."""
    place, schema = part
    for keyword in ("enum", "anyOf", "oneOf"):
        if schema.get(keyword) == []:
            return f"'{place}/{keyword}' is empty, so that nothing is valid."
    for low, high in _RANGES:
        if low in schema and high in schema and schema[low] > schema[high]:
            return f"'{place}': {low} ({schema[low]}) is above {high} ({schema[high]}), so that nothing is valid."
    return None


def _reference_fault(part: _Part, root: Any) -> str | None:
    seen: set[str] = set()
    node = part.schema
    while isinstance(node, dict) and isinstance(node.get("$ref"), str):
        target = node["$ref"]
        place = f"'{part.place}/$ref'"
        if target in seen:
            return f"{place} leads back to itself, which says nothing about the answer."
        seen.add(target)
        if not target.startswith("#"):
            return f"{place}: {_quoted(target)} is outside of this schema; other documents are not read."
        if target != "#" and not target.startswith("#/"):
            return None  # an anchor
        found, node = _looked_up(root, target)
        if not found:
            return f"{place}: {_quoted(target)} is not in the schema."
    return None


def _fault_that_was_said(part: _Part, said: str) -> str | None:
    """What llguidance complained of, if it can be about this schema."""
    place, schema = part
    if not isinstance(schema, dict):
        return None
    keys = _UNKNOWN_KEYS.search(said)
    if keys is not None:
        names = [each for each in json.loads(keys[1]) if each in schema]
        return f"'{place}/{names[0]}': this keyword is not supported." if names else None
    wrong = _SAID.search(said)
    if wrong is None:
        return None
    if wrong["format"] is not None:
        here = schema.get("format") == wrong["format"]
        return f"'{place}/format': {_quoted(wrong['format'])} is not supported." if here else None
    patterns = {"pattern": schema.get("pattern")}
    patterns |= {f"patternProperties/{_escaped(each)}": each for each in schema.get("patternProperties", ())}
    for where, pattern in patterns.items():
        if isinstance(pattern, str) and " ".join(pattern.split()) in said:
            return f"'{place}/{where}': {wrong[0].rstrip('.')}."
    return None


def _looked_up(root: Any, pointer: str) -> tuple[bool, Any]:
    node = root
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        else:
            return False, None
    return True, node


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}…"

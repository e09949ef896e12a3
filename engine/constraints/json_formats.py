"""Dates and times in a JSON Schema, as patterns.

llguidance knows these formats, but not that most years have no 29th of February and hardly any minute a 60th second.
What is allowed here is what RFC 3339 allows, in capitals, without leap seconds, and with nine digits after the second
at most.
"""

from __future__ import annotations

from typing import Any

_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+-]{_CLOCK})"
_PATTERNS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}

_NAMED_SCHEMAS = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")
_VALUES = ("const", "default", "enum", "examples")


def with_exact_formats(schema: Any) -> Any:
    """The schema with `format` of dates and times replaced by patterns, wherever a schema may stand in it."""
    if isinstance(schema, list):
        return [with_exact_formats(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _changed(key, child) for key, child in schema.items()}
    pattern = _PATTERNS.get(schema["format"]) if isinstance(schema.get("format"), str) else None
    if pattern is None:
        return changed
    del changed["format"]
    if "pattern" not in changed:
        return {**changed, "pattern": pattern}
    branches = changed.get("allOf", [])
    return {**changed, "allOf": [*branches, {"pattern": pattern}]} if isinstance(branches, list) else schema


def _changed(key: str, child: Any) -> Any:
    if key in _VALUES:
        return child
    if key in _NAMED_SCHEMAS and isinstance(child, dict):
        return {name: with_exact_formats(each) for name, each in child.items()}
    return with_exact_formats(child)

"""What a JSON Schema says for readers only."""

from __future__ import annotations

from typing import Any

_ANNOTATIONS = frozenset(
    {"description", "title", "examples", "default", "$comment", "deprecated", "readOnly", "writeOnly"}
)
_NAMED_SCHEMAS = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_VALUES = frozenset({"const", "enum"})


def without_annotations(schema: Any) -> Any:
    """The schema without what no value can offend against: tools have more words than rules, and grammars a limit."""
    if isinstance(schema, list):
        return [without_annotations(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _kept(key, value) for key, value in schema.items() if key not in _ANNOTATIONS}


def _kept(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key in _NAMED_SCHEMAS and isinstance(value, dict):
        return {name: without_annotations(each) for name, each in value.items()}
    return without_annotations(value)

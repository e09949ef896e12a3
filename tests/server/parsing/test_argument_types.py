from __future__ import annotations

from typing import Any

import pytest

from server.parsing.argument_types import ANY, argument_types, read_json, type_of


def types(schema: Any, **root: Any) -> set[str]:
    return set(argument_types({"type": "object", "properties": {"x": schema}, **root}, "x"))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"string"}),
        ({"type": "number"}, {"number", "integer"}),
        ({"type": "integer"}, {"integer"}),
        ({"type": ["string", "null"]}, {"string", "null"}),
        ({"type": "string", "nullable": True}, {"string", "null"}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"string", "null"}),
        ({"oneOf": [{"type": "array"}, {"const": 3}]}, {"array", "integer"}),
        ({"allOf": [{"type": ["string", "integer"]}, {"enum": ["1", "2"]}]}, {"string"}),
        ({"enum": ["celsius", "fahrenheit"]}, {"string"}),
        ({"enum": [1, "auto", None, 2.5]}, {"integer", "string", "null", "number"}),
        ({"const": True}, {"boolean"}),
        ({"$ref": "#/$defs/City"}, {"string"}),
        ({"$ref": "#/$defs/a~1b"}, {"object"}),
    ],
)
def test_types_are_those_all_parts_of_a_schema_allow(schema: Any, expected: set[str]) -> None:
    assert types(schema, **{"$defs": {"City": {"type": "string"}, "a/b": {"type": "object"}}}) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        False,
        None,
        {"type": "unknown"},
        {"type": 3},
        {"type": ["string"], "enum": [1]},
        {"$ref": "#/nowhere"},
        {"$ref": "other.json"},
        {"$ref": "#/properties/x"},
        {"anyOf": "nonsense", "enum": 7, "allOf": 3},
    ],
)
def test_a_schema_that_does_not_say_leaves_the_type_open(schema: Any) -> None:
    assert types(schema) == ANY


def test_a_schema_that_grows_without_end_is_given_up() -> None:
    branching = {"anyOf": [{"$ref": "#/$defs/b"}] * 50}

    assert types({"$ref": "#/$defs/b"}, **{"$defs": {"b": branching}}) == ANY


def test_arguments_that_are_not_named_follow_the_schema_for_all_others() -> None:
    assert argument_types({"additionalProperties": {"type": "integer"}}, "x") == {"integer"}
    assert argument_types({"properties": {}}, "x") == ANY
    assert argument_types(None, "x") == ANY


def test_properties_of_a_schema_referred_to_are_found() -> None:
    root = {"$ref": "#/$defs/Args", "$defs": {"Args": {"properties": {"x": {"type": "boolean"}}}}}

    assert argument_types(root, "x") == {"boolean"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("null", "null"),
        ("true", "boolean"),
        ('""', "string"),
        ("[]", "array"),
        ("{}", "object"),
        ("3", "integer"),
        ("3.0", "integer"),
        ("3.5", "number"),
        ("1e999", "number"),
        ("9" * 5000, "integer"),
    ],
)
def test_the_type_of_a_value_is_its_narrowest(text: str, expected: str) -> None:
    assert type_of(read_json(text)) == expected


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 100_000, "", "{,}"])
def test_what_is_no_json_has_no_value(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own errors have many words
        read_json(text)

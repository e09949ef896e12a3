"""What is said of a JSON Schema that is refused: the fault, and where it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.schema_faults import schema_fault
from engine.types import GrammarKind
from tests.engine.constraints.test_grammar import refusal

LOOP = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"$ref": "#"}, "'#/$ref' leads back to itself, which says nothing about the answer."),
        (LOOP, "'#/$ref' leads back to itself, which says nothing about the answer."),
        ({"$ref": "#/$defs/x"}, "'#/$ref': \"#/$defs/x\" is not in the schema."),
        ({"$ref": "#/a/0"}, "'#/$ref': \"#/a/0\" is not in the schema."),
        ({"$ref": 5}, "'#/$ref' must be a string, not 5."),
        (
            {"items": {"$ref": "other"}},
            "'#/items/$ref': \"other\" is outside of this schema; other documents are not read.",
        ),
        ({"type": "strng"}, "'#/type': \"strng\" is none of string, number, integer, boolean, object, array, null."),
        (
            {"type": ["string", None]},
            "'#/type': null is none of string, number, integer, boolean, object, array, null.",
        ),
        ({"enum": []}, "'#/enum' is empty, so that nothing is valid."),
        ({"anyOf": {}}, "'#/anyOf' must be an array, not {}."),
        ({"properties": {"a/b": {"items": 5}}}, "'#/properties/a~1b/items' must be an object, true or false, not 5."),
        (
            {"anyOf": [{"type": "null"}, {"maxLength": -1}]},
            "'#/anyOf/1/maxLength' must be a whole number from 0, not -1.",
        ),
        (
            {"type": "array", "minItems": 3, "maxItems": 1},
            "'#': minItems (3) is above maxItems (1), so that nothing is valid.",
        ),
        ({"items": {"not": {}}}, "'#/items/not': this keyword is not supported."),
        ({"items": {"type": "string", "format": "x"}}, "'#/items/format': \"x\" is not supported."),
        (
            {"items": {"type": "string", "pattern": "("}},
            "'#/items/pattern': regex parse error: ( error: unclosed group.",
        ),
        (
            {"properties": {"deep": {"items": {"type": "bogus"}}}},
            "'#/properties/deep/items/type': \"bogus\" is none of string, number, integer, boolean, object, array, "
            "null.",
        ),
        (
            {"anyOf": [{"$ref": "#"}]},
            "it leads back to itself before it has a first character, so that there is no answer.",
        ),
    ],
)
def test_the_fault_and_its_place(schema: Any, fault: str) -> None:
    assert refusal(GrammarKind.JSON_SCHEMA, schema) == f"The grammar cannot be used: {fault}"


def test_every_place_of_a_oneof_that_cannot_be_kept_is_named() -> None:
    either = {"oneOf": [{"type": "string"}, {"minLength": 3}]}
    said = "oneOf is supported only where its branches cannot overlap; use anyOf."
    alone = refusal(GrammarKind.JSON_SCHEMA, {"items": either})
    assert alone == f"The grammar cannot be used: '#/items/oneOf': {said}"
    several = refusal(GrammarKind.JSON_SCHEMA, {"properties": {"a": either, "b": either}})
    assert several == f"The grammar cannot be used: '#/properties/a/oneOf' or '#/properties/b/oneOf': {said}"


def test_schemas_within_other_grammars_are_explained_too() -> None:
    tag = {"structures": [{"begin": "<a>", "schema": {"type": "bogus"}, "end": "</a>"}], "triggers": ["<a"]}
    assert "'#/type': \"bogus\"" in refusal(GrammarKind.STRUCTURAL_TAG, tag)


def test_a_rule_that_never_begins() -> None:
    assert "leads back to itself" in refusal(GrammarKind.LARK, "start: start")


keywords = st.sampled_from(
    [
        "type",
        "$ref",
        "$defs",
        "properties",
        "items",
        "anyOf",
        "enum",
        "minimum",
        "maximum",
        "maxLength",
        "pattern",
        "not",
    ]
)
schemas = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["#", "#/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords | st.text(max_size=2), inner, max_size=4),
    max_leaves=20,
)
SAID = ["", 'Unimplemented keys: ["not"]', "Unknown format: x", "regex parse error: ( error: unclosed group"]


@given(schemas, st.sampled_from(SAID))
def test_any_schema_is_looked_through(schema: Any, said: str) -> None:
    fault = schema_fault(schema, said)
    assert fault is None or (fault.startswith("'#") and fault.endswith("."))


def test_long_values_are_not_told_whole() -> None:
    fault = schema_fault({"items": ["x" * 10_000]}, "")
    assert fault is not None
    assert len(fault) < 300

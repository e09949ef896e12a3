from __future__ import annotations

import json
import re
from typing import Any

import pytest

from engine.errors import InvalidRequestError
from server.parsing.grammar_parts import text
from server.parsing.named_arguments import NamedArgument, is_open, named_arguments
from server.parsing.qwen3_coder import Qwen3CoderFormat
from server.parsing.text_values import text_value
from server.parsing.tool_format import Demand, Part, Tool
from tests.server.parsing.round_trip import read_back
from tests.server.parsing.sampling import Vocabulary

END = "</p>"
NAMES = re.compile("[a-z]+")
DEFINITIONS = {
    "$defs": {"City": {"enum": ["Oslo", "Rome"]}, "Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}}
}


def tool(schema: Any, *, strict: bool = False) -> Tool:
    return Tool("f", {"type": "object", "properties": {"x": schema}, "required": ["x"], **DEFINITIONS}, strict)


def value(schema: Any, *, strict: bool = False) -> Part:
    one = tool(schema, strict=strict)
    (argument,) = named_arguments(one, NAMES)
    return text_value(one, argument, text(END), [END])


def kinds(part: Part) -> list[str]:
    """What it is made of: types of parts, and texts as they stand."""
    match part["type"]:
        case "text":
            return [part["text"]]
        case "sequence":
            return [kind for each in part["parts"] for kind in kinds(each)]
        case "choice":
            return [kind for each in part["of"] for kind in kinds(each)]
        case kind:
            return [kind]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "description": "of the city"}, ["until"]),
        ({}, ["until"]),
        ({"type": "string", "optional": True, "x-order": 3}, ["until"]),
        (True, ["until"]),
        ({"type": ["string", "null"]}, ["until"]),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, ["until"]),
        ({"type": "integer", "minimum": 3}, ["json", END]),
        ({"type": "array", "items": {"type": "string", "maxLength": 3}}, ["json", END]),
        ({"enum": ["a", "", 5, None, True]}, ["a", END, END, "5", END, "null", END, "true", END]),
        ({"type": "string", "enum": ["5", "null"]}, ["5", END, "null", END]),
        ({"const": [1, "a"]}, ['[1, "a"]', END]),
        ({"$ref": "#/$defs/City"}, ["Oslo", END, "Rome", END]),
        ({"enum": ["5", 5]}, ["5", END]),
        ({"enum": ["a</p>b", "c"]}, ["c", END]),
    ],
)
def test_values_are_held_to_their_schema(schema: Any, expected: list[str], strict: bool) -> None:
    assert kinds(value(schema, strict=strict)) == expected


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "pattern": "a+"}, "'pattern'"),
        ({"type": "string", "minLength": 1, "format": "date"}, "'format' and 'minLength'"),
        ({"anyOf": [{"type": "string"}, {"type": "object", "required": ["a"]}]}, "'anyOf'"),
        ({"oneOf": [{"type": "string"}, {"type": "null"}]}, "'oneOf'"),
        ({"enum": ["a</p>b"]}, "'enum'"),
        ({"$ref": "#/$defs/Node"}, "'properties'"),
        ({"$ref": "#/nowhere"}, "'$ref'"),
    ],
)
def test_a_strict_tool_that_cannot_be_honoured_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(InvalidRequestError, match="The tool 'f' is strict") as refused:
        value(schema, strict=True)
    assert named in refused.value.message
    assert "'x'" in refused.value.message
    assert refused.value.param == "tools"
    assert kinds(value(schema)) == ["until"]


@pytest.mark.parametrize("keyword", ["anyOf", "patternProperties", "minProperties", "$ref"])
def test_what_a_strict_tool_asks_of_all_arguments_together_is_refused(keyword: str) -> None:
    parameters = {"type": "object", "properties": {}, keyword: {}}

    with pytest.raises(InvalidRequestError, match="can hold its arguments to '") as refused:
        named_arguments(Tool("f", parameters, strict=True), NAMES)
    assert f"'{keyword}'" in refused.value.message
    assert named_arguments(Tool("f", parameters), NAMES) == []


def test_names_that_cannot_be_written_are_left_out_or_refused() -> None:
    parameters = {"properties": {"a>": {}, "b": {}}}
    assert [each.name for each in named_arguments(Tool("f", parameters), NAMES)] == ["b"]

    with pytest.raises(InvalidRequestError, match="argument 'a>' of the tool 'f' cannot be written"):
        named_arguments(Tool("f", {**parameters, "required": ["a>"]}), NAMES)


def test_arguments_that_are_required_without_a_schema_follow_the_one_for_all_others() -> None:
    parameters = {"properties": {}, "required": ["x"], "additionalProperties": {"type": "integer"}}

    assert named_arguments(Tool("f", parameters), NAMES) == [NamedArgument("x", {"type": "integer"}, required=True)]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (None, True),
        ({}, True),
        ({"type": "object"}, True),
        ({"properties": {}}, False),
        ({"additionalProperties": False}, False),
    ],
)
def test_schemas_that_name_no_arguments_are_open(parameters: Any, expected: bool) -> None:
    assert is_open(Tool("f", parameters)) == expected


def test_strict_tools_are_held_to_schemas_with_definitions() -> None:
    city = {"type": "array", "items": {"$ref": "#/$defs/City"}, "minItems": 1, "maxItems": 2}
    one = tool(city, strict=True)
    vocabulary = Vocabulary()
    demand = Demand(required=True, parallel=False, special={})
    grammar = Qwen3CoderFormat().grammar([one], demand)

    for seed in range(5):
        read_back(Qwen3CoderFormat(), demand, vocabulary.answer(grammar, seed), [one])
    json.dumps(grammar)

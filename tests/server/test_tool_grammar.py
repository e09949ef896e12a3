"""Which schemas a grammar for tools enforces, with the compiler that the engine uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

import pytest

from engine.errors import InvalidRequestError
from engine.types import MAX_GRAMMAR_BYTES, GrammarKind, GrammarSpec
from server.parsing.hermes import HermesFormat
from server.parsing.pythonic import PythonicFormat
from server.parsing.tool_format import Demand, Tool, ToolFormat
from server.tool_grammar import tool_grammar
from tests.engine.constraints.test_grammar import COMPILER, accepts

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}
ODD = {"type": "object", "unevaluatedProperties": False}  # cannot be compiled
HERMES = HermesFormat()
REQUIRED = Demand(required=True, parallel=False, special={})
FREE = Demand(required=False, parallel=False, special={})


def made(
    tools: list[Tool],
    demand: Demand,
    offered: Collection[str] | None = None,
    tool_format: ToolFormat = HERMES,
) -> GrammarSpec:
    async def check(spec: GrammarSpec) -> None:
        COMPILER.compile(spec)

    names = [tool.name for tool in tools] if offered is None else offered
    return asyncio.run(tool_grammar(tool_format, tools, names, demand, check))


def refusal(tools: list[Tool], demand: Demand, tool_format: ToolFormat = HERMES) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        made(tools, demand, tool_format=tool_format)
    return caught.value


def allows(spec: GrammarSpec, name: str, arguments: Any) -> bool:
    text = f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'
    return accepts(GrammarKind.TREE, spec.source, text)


def test_required_calls_follow_their_schemas_strict_or_not() -> None:
    spec = made([Tool("a", POINT), Tool("b", POINT, strict=True), Tool("c", None)], REQUIRED)
    for name in ("a", "b"):
        assert allows(spec, name, {"x": 1})
        assert not allows(spec, name, {"y": 1})
    assert allows(spec, "c", {"y": 1})
    assert not allows(spec, "d", {"x": 1})


def test_where_calls_are_free_only_strict_tools_are_held_to_their_schemas() -> None:
    spec = made([Tool("a", POINT), Tool("b", POINT, strict=True)], FREE)
    assert accepts(GrammarKind.TREE, spec.source, "No calls.")
    assert allows(spec, "a", {"y": 1})
    assert allows(spec, "b", {"x": 1})
    assert not allows(spec, "b", {"y": 1})


def test_only_offered_tools_may_be_called() -> None:
    spec = made([Tool("a", ODD, strict=True), Tool("b", POINT)], REQUIRED, ["b"])
    assert allows(spec, "b", {"x": 1})
    assert not allows(spec, "a", {})


def test_a_schema_that_cannot_be_enforced_leaves_arguments_open_unless_it_is_strict() -> None:
    spec = made([Tool("a", ODD), Tool("b", POINT)], REQUIRED)
    assert allows(spec, "a", {"y": 1})
    assert not allows(spec, "b", {"y": 1})
    error = refusal([Tool("a", POINT), Tool("b", ODD, strict=True)], FREE)
    assert error.param == "tools[1].function.parameters"
    assert error.code == "invalid_function_parameters"
    assert "function 'b'" in error.message


def test_what_is_too_much_in_all_gives_way_where_it_may() -> None:
    large, larger = (
        {"type": "object", "properties": {"k": {"enum": [letter * (MAX_GRAMMAR_BYTES // 2)]}}} for letter in "xy"
    )
    spec = made([Tool("a", large), Tool("b", larger)], REQUIRED)
    assert allows(spec, "a", {"y": 1})
    error = refusal([Tool("a", large, strict=True), Tool("b", larger, strict=True)], REQUIRED)
    assert error.param == "tools"
    assert "enforced together" in error.message


def test_what_a_notation_cannot_hold_is_refused_like_what_no_grammar_can() -> None:
    blank = {"type": "object", "properties": {"a b": {"type": "integer"}}, "required": ["a b"]}
    tools = [Tool("a", POINT, strict=True), Tool("b", blank)]
    spec = made(tools, REQUIRED, tool_format=PythonicFormat())
    assert accepts(GrammarKind.TREE, spec.source, '[b(c="x")]')
    assert not accepts(GrammarKind.TREE, spec.source, '[a(c="x")]')
    error = refusal([Tool("a", POINT), Tool("b", blank, strict=True)], REQUIRED, PythonicFormat())
    assert error.param == "tools[1].function.parameters"
    assert "'a b'" in error.message

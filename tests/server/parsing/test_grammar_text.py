from __future__ import annotations

import json

import pytest

from engine.constraints.grammar_tree import tree_to_lark
from engine.types import MAX_GRAMMAR_BYTES
from server.parsing.grammar_parts import choice, json_value, sequence, text
from server.parsing.grammar_text import grammar_text
from server.parsing.table import FORMATS
from server.parsing.tool_format import Demand, Part, Tool, ToolFormat
from tests.server.parsing.round_trip import TOOLS


def lark(part: Part) -> str:
    return tree_to_lark(part, json.dumps, json.dumps)


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_the_text_means_what_the_part_does(fmt: ToolFormat, required: bool) -> None:
    special = {marker: 5 + index for index, marker in enumerate(fmt.markers)}
    part = fmt.grammar(TOOLS, Demand(required, parallel=True, special=special))

    assert lark(json.loads(grammar_text(part))) == lark(json.loads(json.dumps(part)))


def test_what_is_there_several_times_is_written_once() -> None:
    long = json_value({"type": "object", "title": "x" * 100})
    written = grammar_text(
        choice([sequence(text("a"), long), sequence(text("b"), long), sequence(text("a"), dict(long))])
    )

    assert written.count("x" * 100) == 1
    assert written.count('"a"') == 1 + written.count('"name": "a"')


def test_schemas_are_left_as_they_are() -> None:
    schema = {"type": "sequence", "parts": [{"type": "choice"}], "of": 3}

    assert json.loads(grammar_text(json_value(schema))) == json_value(schema)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_many_tools_with_many_arguments_fit(fmt: ToolFormat) -> None:
    described = {"type": "string", "description": "d" * 60}
    tools = [
        Tool(f"tool_{tool}", {"type": "object", "properties": {f"{tool}_{name}_of_it": described for name in range(8)}})
        for tool in range(40)
    ]

    for required in (True, False):
        written = grammar_text(fmt.grammar(tools, Demand(required, parallel=True, special={})))
        assert len(written) < MAX_GRAMMAR_BYTES

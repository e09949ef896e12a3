"""Scoring an answer of the demo model."""

from __future__ import annotations

import pytest

from demo.scoring import measures


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', (True, True, True)),
        ('<tool_call>\n{"name": "f", "arguments": {"a": 2}}\n</tool_call>', (True, True, False)),
        ('<tool_call>\n{"name": "g", "arguments": {"a": 1}}\n</tool_call>', (True, False, False)),
        ('<tool_call>\n{"name": "f"}\n</tool_call>', (False, False, False)),
        ("I cannot do that.", (False, False, False)),
    ],
)
def test_a_tool_answer_is_scored_step_by_step(answer: str, right: tuple[bool, bool, bool]) -> None:
    item = {"kind": "tool", "messages": [], "expected": [{"name": "f", "arguments": {"a": 1}}]}
    met = measures(item, answer)
    assert (met["tool: valid calls"], met["tool: right names"], met["tool: right names and arguments"]) == right


def test_json_values_count_only_where_the_request_gives_them() -> None:
    asked = {"kind": "json", "expected": '{"a": 1}', "messages": [{"content": "Give me a thing as JSON."}]}
    given = {**asked, "messages": [{"content": "Turn this into JSON: a is 1."}]}
    assert measures(asked, '{"a": 2}') == {"json: parses": True, "json: right keys": True}
    assert measures(given, '{"a": 2}')["json: right values, where given"] is False
    assert measures(given, '{"a": 1')["json: parses"] is False

"""What a format's grammar allows, its parser must read as calls of known tools with valid arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence

import jsonschema

from server.parsing.base import Event
from server.parsing.tool_format import Demand, Tool, ToolFormat
from tests.server.parsing.laws import calls_in, content_in, events_of
from tests.server.parsing.sampling import Vocabulary

_ITEM = {
    "type": "object",
    "properties": {"word": {"type": "string"}, "count": {"type": ["integer", "null"]}},
    "required": ["word", "count"],
    "additionalProperties": False,
}
TOOLS = (
    Tool(
        "add", {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]}
    ),
    Tool("add_all", {"type": "object", "properties": {"items": {"type": "array", "items": _ITEM, "maxItems": 3}}}),
    Tool(
        "say-it_2",
        {
            "type": "object",
            "properties": {"how": {"enum": ['é "x"', "</tool_call>", "{'[", "[ARGS]{", "<|tool_call|>"]}},
            "required": ["how"],
            "additionalProperties": False,
        },
    ),
    Tool("anything", None),
    Tool("nothing", {"type": "object", "properties": {}, "additionalProperties": False}),
)
SEEDS = range(12)


def read_back(fmt: ToolFormat, demand: Demand, answer: str, tools: Sequence[Tool] = TOOLS) -> list[Event]:
    """What the parser finds, held against what was asked of the answer."""
    events = events_of(fmt.parser(tools), [answer])
    assert events_of(fmt.parser(tools), list(answer)) == events
    schemas = {tool.name: tool.parameters for tool in tools}
    calls = calls_in(events)
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), schemas[name] or {"type": "object"})
    if demand.required:
        assert calls, answer
        assert content_in(events) == "", answer
    if not demand.parallel:
        assert len(calls) <= 1, answer
    return events


def assert_round_trip(fmt: ToolFormat, *, vocabulary: Vocabulary, length: int = 60) -> None:
    """Sampled answers of every demand, and of every tool; they are made to end after so many tokens."""
    most = 0
    for required in (True, False):
        for parallel in (True, False):
            demand = Demand(required, parallel, vocabulary.special)
            grammar = fmt.grammar(TOOLS, demand)
            for seed in SEEDS:
                most = max(most, len(calls_in(read_back(fmt, demand, vocabulary.answer(grammar, seed, length)))))
    assert most > 1, "no sampled answer had several calls"
    demand = Demand(required=True, parallel=False, special=vocabulary.special)
    for tool in TOOLS:
        grammar = fmt.grammar([tool], demand)
        for seed in SEEDS[:5]:
            assert calls_in(read_back(fmt, demand, vocabulary.answer(grammar, seed)))[0][0] == tool.name

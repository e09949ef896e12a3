"""Arguments of all kinds of types, through every notation in which the schema says what a text means."""

from __future__ import annotations

import pytest

from server.parsing.glm import GlmFormat
from server.parsing.pythonic import PythonicFormat
from server.parsing.qwen3_coder import Qwen3CoderFormat
from server.parsing.tool_format import Demand, Tool, ToolFormat
from tests.server.parsing.laws import calls_in
from tests.server.parsing.round_trip import read_back
from tests.server.parsing.sampling import Vocabulary

PROPERTIES = {
    "nullable": {"type": ["string", "null"]},
    "union": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    "named": {"enum": ["x", 1, None, True, "1.5", ["a"]]},
    "truth": {"type": "boolean"},
    "number": {"type": "number"},
    "any": {},
    "object": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
    "tags": {"type": "array", "items": {"enum": ["</arg_value>", "\n</parameter>", "'", "\\", '"']}, "maxItems": 3},
    "city": {"$ref": "#/$defs/City"},
}
TOOL = Tool(
    "mixed",
    {
        "type": "object",
        "properties": PROPERTIES,
        "required": ["union", "object"],
        "$defs": {"City": {"type": "string", "description": "any"}},
    },
    strict=True,
)


@pytest.mark.parametrize(
    ("fmt", "ending"), [(Qwen3CoderFormat(), "\n</parameter>"), (GlmFormat(), "</arg_value>"), (PythonicFormat(), '"')]
)
@pytest.mark.parametrize("special", [True, False])
def test_what_the_grammar_allows_is_read_back(fmt: ToolFormat, ending: str, special: bool) -> None:
    vocabulary = Vocabulary(fmt.markers if special else (), [ending])
    demand = Demand(required=True, parallel=True, special=vocabulary.special)
    grammar = fmt.grammar([TOOL], demand)

    for seed in range(25):
        events = read_back(fmt, demand, vocabulary.answer(grammar, seed, 40), [TOOL])
        assert {name for name, _ in calls_in(events)} == {"mixed"}

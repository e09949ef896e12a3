"""The demo model, made to call in every notation: what it then writes is of little sense, but always a valid call."""

from __future__ import annotations

import json

import jsonschema
import pytest

from quire import LLM, GrammarKind, GrammarSpec, SamplingParams
from quire.demo_model import demo_model
from server.parsing.table import FORMATS
from server.parsing.tool_format import Demand, Tool, ToolFormat
from tests.server.parsing.laws import calls_in, content_in, events_of

TOOLS = [
    Tool(
        "set_lamp",
        {
            "type": "object",
            "properties": {
                "colour": {"enum": ["amber", "violet"]},
                "percent": {"type": "integer", "minimum": 0, "maximum": 99},
                "on": {"type": "boolean"},
            },
            "required": ["colour", "percent"],
            "additionalProperties": False,
        },
    ),
    Tool("list_lamps", {"type": "object", "properties": {}, "additionalProperties": False}),
]
PROMPT = "<|im_start|>user\nMake it bright.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(demo_model(), max_model_len=1024)


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda each: each.name)
def test_a_required_call_is_valid_in_every_notation(llm: LLM, tool_format: ToolFormat) -> None:
    grammar = tool_format.grammar(TOOLS, Demand(required=True, parallel=False, special={}))
    spec = GrammarSpec(GrammarKind.TREE, json.dumps(grammar))
    (answer,) = llm.generate([PROMPT], SamplingParams(n=2, seed=5, temperature=0.8, max_tokens=250, grammar=spec))
    whole = [output.text for output in answer.outputs if output.finish_reason == "stop"]
    assert whole
    for text in whole:
        events = events_of(tool_format.parser(TOOLS), [text])
        ((name, arguments),) = calls_in(events)
        assert content_in(events) == "", text
        schema = next(tool.parameters for tool in TOOLS if tool.name == name)
        jsonschema.validate(json.loads(arguments), schema)

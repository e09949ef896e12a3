"""Strict JSON from the demo model through the OpenAI SDK: streamed, whole, several choices, and as pydantic objects.

What the demo model says is of little sense, but it must always be what was asked for.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from engine.errors import InvalidRequestError
from quire import LLM, GrammarKind, GrammarSpec, SamplingParams
from quire.demo_model import demo_model
from tests.end_to_end.conftest import Server

QUESTION = [{"role": "user", "content": "Tell me about the capital of Norway, as JSON."}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "country": {"enum": ["Norway", "Peru"]},
        "population": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
    },
    "required": ["city", "country", "population", "tags"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "capital", "strict": True, "schema": SCHEMA}}


class City(BaseModel):
    name: str = Field(max_length=20)
    kind: Literal["town", "capital"]


class Answer(BaseModel):
    cities: list[City] = Field(max_length=2)
    certain: bool


@pytest.fixture(scope="module")
def client(demo_server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=demo_server.url, api_key="none", max_retries=0, timeout=600, _strict_response_validation=True
    )


def test_an_answer_is_valid_against_its_schema_whatever_is_drawn(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="quire-demo", messages=QUESTION, response_format=FORMAT, temperature=1.5, seed=3, n=6, max_tokens=400
    )
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        value = json.loads(choice.message.content or "")
        jsonschema.validate(value, SCHEMA)
        assert list(value) == list(SCHEMA["properties"])
    assert len({choice.message.content for choice in answer.choices}) > 1


def test_the_streamed_answer_is_the_whole_answer(client: openai.OpenAI) -> None:
    asked: Any = {"model": "quire-demo", "messages": QUESTION, "response_format": FORMAT, "seed": 5, "max_tokens": 400}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_parsing_into_a_pydantic_model(client: openai.OpenAI, temperature: float) -> None:
    answer = client.chat.completions.parse(
        model="quire-demo",
        messages=QUESTION,  # type: ignore[arg-type]
        response_format=Answer,
        temperature=temperature,
        seed=1,
        max_tokens=400,
    )
    assert isinstance(answer.choices[0].message.parsed, Answer)
    with client.chat.completions.stream(
        model="quire-demo",
        messages=QUESTION,  # type: ignore[arg-type]
        response_format=Answer,
        temperature=temperature,
        seed=1,
        max_tokens=400,
    ) as stream:
        stream.until_done()
        assert stream.get_final_completion().choices[0].message.parsed == answer.choices[0].message.parsed


def test_any_json_object(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="quire-demo", messages=QUESTION, response_format={"type": "json_object"}, temperature=0, max_tokens=300
    )
    content = answer.choices[0].message.content or ""
    assert content.startswith("{")
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(content), dict)


def test_max_tokens_cuts_an_answer_off_and_says_so(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="quire-demo", messages=QUESTION, response_format=FORMAT, temperature=0, max_tokens=5
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_penalties_bias_and_log_probabilities_go_with_a_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="quire-demo",
        messages=QUESTION,
        response_format=FORMAT,
        temperature=0.8,
        seed=2,
        frequency_penalty=1.5,
        presence_penalty=1.0,
        logit_bias={"5": 100},
        logprobs=True,
        top_logprobs=2,
        max_tokens=400,
    )
    (choice,) = answer.choices
    jsonschema.validate(json.loads(choice.message.content or ""), SCHEMA)
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert "".join(entry.token for entry in choice.logprobs.content) == choice.message.content


GBNF = 'root ::= name ("-" name)?\nname ::= [a-z]{2,5}'
LARK = 'start: greeting ", " NAME "!"\ngreeting: "Hello" | "Hi"\nNAME: /[A-Z][a-z]{1,9}/'
TAG = {
    "structures": [
        {"begin": "<add>", "schema": {"type": "array", "maxItems": 2, "items": {"enum": [1, 2]}}, "end": "</add>"}
    ],
    "triggers": ["<"],
}


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"structured_outputs": {"regex": "(red|green) [0-9]{2}"}}, "(red|green) [0-9]{2}"),
        ({"guided_choice": ["yes", "no", "maybe so"]}, "yes|no|maybe so"),
        ({"structured_outputs": {"grammar": LARK}}, "(Hello|Hi), [A-Z][a-z]{1,9}!"),
        ({"grammar": GBNF}, "[a-z]{2,5}(-[a-z]{2,5})?"),
        ({"structured_outputs": {"structural_tag": TAG}, "max_tokens": 30}, r"([^<]|<add>\[.*\]</add>)*"),
    ],
)
def test_other_grammars(client: openai.OpenAI, fields: dict[str, Any], pattern: str) -> None:
    asked: Any = {"model": "quire-demo", "messages": QUESTION, "seed": 4, "max_tokens": 200, "n": 3}
    answer = client.chat.completions.create(**{**asked, "extra_body": fields})
    for choice in answer.choices:
        if choice.finish_reason == "stop":
            assert re.fullmatch(pattern, choice.message.content or "", re.DOTALL), choice.message.content
    assert any(choice.finish_reason == "stop" for choice in answer.choices)


def test_the_offline_class_follows_a_grammar() -> None:
    llm = LLM(demo_model(), max_model_len=512)
    yes_or_no = SamplingParams(max_tokens=40, grammar=GrammarSpec(GrammarKind.CHOICE, '["yes", "no"]'))
    schema = GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))
    strict = SamplingParams(max_tokens=300, n=2, seed=1, grammar=schema)
    first, second = llm.generate(["Is it so?", "A city:"], [yes_or_no, strict])
    assert first.outputs[0].text in ("yes", "no")
    for output in second.outputs:
        jsonschema.validate(json.loads(output.text), SCHEMA)
    unique = GrammarSpec(GrammarKind.JSON_SCHEMA, '{"type": "array", "uniqueItems": true}')
    with pytest.raises(InvalidRequestError, match="uniqueItems"):
        llm.generate("x", SamplingParams(grammar=unique))
    assert llm.generate("Once", SamplingParams(max_tokens=3))[0].outputs[0].token_ids


def test_legacy_completions_follow_a_grammar_for_every_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="quire-demo", prompt=["One", "Two"], n=2, max_tokens=50, extra_body={"guided_regex": "[ab]{3}c"}
    )
    assert len(answer.choices) == 4
    assert all(re.fullmatch("[ab]{3}c", choice.text) for choice in answer.choices)


def test_what_cannot_be_honoured_is_a_400_before_the_stream(client: openai.OpenAI) -> None:
    unique: Any = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    with pytest.raises(openai.BadRequestError, match="uniqueItems") as caught:
        client.chat.completions.create(
            model="quire-demo",
            messages=QUESTION,
            stream=True,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": unique}},
        )
    assert caught.value.param == "response_format.json_schema.schema"

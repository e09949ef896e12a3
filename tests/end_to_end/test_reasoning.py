"""The demo model reasons before it answers: through the OpenAI SDK, streamed and whole, within a budget, before JSON.

It reasons when its template is told to. A copy of it, whose template opens the block itself, always does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from engine.build import build_engine
from engine.config import EngineConfig
from engine.reasoning import ReasoningSpec
from engine.text.tokenizer import load_tokenizer
from engine.types import GenerationRequest, GrammarKind, GrammarSpec, SamplingParams
from quire.demo_model import demo_model
from tests.end_to_end.conftest import Server
from tests.end_to_end.engine_runs import require_native, run

SUM: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 3 + 4?"}]
CAPITAL: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of Norway?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "population": {"type": "integer", "minimum": 0, "maximum": 99_999},
    },
    "required": ["city", "population"],
    "additionalProperties": False,
}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "capital", "schema": SCHEMA}}
THINKS: dict[str, Any] = {"enable_thinking": True}


class Answer(NamedTuple):
    """What clients see of an answer with one choice."""

    content: str
    thoughts: str
    finish: str
    tokens: int
    reasoning_tokens: int


def connect(server: Server) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=server.url, api_key="none", max_retries=0, timeout=600, _strict_response_validation=True
    )


@pytest.fixture(scope="module")
def client(demo_server: Server) -> openai.OpenAI:
    return connect(demo_server)


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """A client of the model whose template opens the block."""
    directory = tmp_path_factory.mktemp("models") / "thinker"
    shutil.copytree(demo_model(), directory)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    opening = "{{- '<|im_start|>assistant\\n' }}"
    assert config["chat_template"].count(opening) == 1
    config["chat_template"] = config["chat_template"].replace(opening, "{{- '<|im_start|>assistant\\n<think>\\n' }}")
    path.write_text(json.dumps(config))
    server = Server(str(directory), "--kv-cache-tokens", "4096")
    yield connect(server)
    server.stop()


def whole(client: openai.OpenAI, messages: list[ChatCompletionMessageParam], **fields: Any) -> Answer:
    asked: Any = {"model": client.models.list().data[0].id, "temperature": 0, "max_tokens": 120, **fields}
    answer = client.chat.completions.create(messages=messages, **asked)
    (choice,) = answer.choices
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    return Answer(
        choice.message.content or "",
        getattr(choice.message, "reasoning_content", ""),
        choice.finish_reason,
        answer.usage.completion_tokens,
        answer.usage.completion_tokens_details.reasoning_tokens or 0,
    )


def streamed(client: openai.OpenAI, messages: list[ChatCompletionMessageParam], **fields: Any) -> Answer:
    asked: Any = {"model": client.models.list().data[0].id, "temperature": 0, "max_tokens": 120, **fields}
    content = thoughts = finish = ""
    usage = None
    for chunk in client.chat.completions.create(
        messages=messages, stream=True, stream_options={"include_usage": True}, **asked
    ):
        usage = chunk.usage
        for choice in chunk.choices:
            content += choice.delta.content or ""
            thoughts += getattr(choice.delta, "reasoning_content", "")
            finish = choice.finish_reason or finish
    assert usage is not None
    assert usage.completion_tokens_details is not None
    return Answer(
        content, thoughts, finish, usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens or 0
    )


def test_the_streamed_answer_is_the_whole_answer(client: openai.OpenAI) -> None:
    answer = whole(client, SUM, extra_body=THINKS)
    assert answer.thoughts.startswith("3 + 4")
    assert answer.content.startswith("3 + 4 =")
    assert "think>" not in answer.thoughts + answer.content
    assert 0 < answer.reasoning_tokens < answer.tokens
    assert answer.finish == "stop"
    assert streamed(client, SUM, extra_body=THINKS) == answer


def test_nothing_is_thought_unless_the_template_is_told(client: openai.OpenAI) -> None:
    answer = whole(client, SUM)
    assert (answer.thoughts, answer.reasoning_tokens) == ("", 0)
    assert whole(client, SUM, extra_body={"reasoning_effort": "none"}) == answer
    assert whole(client, SUM, reasoning_effort="high") == whole(client, SUM, extra_body=THINKS)


def test_a_budget_is_kept_to_the_token(client: openai.OpenAI) -> None:
    free = whole(client, SUM, extra_body=THINKS)
    for budget in (1, 4, 9):
        answer = whole(client, SUM, extra_body={**THINKS, "thinking_token_budget": budget})
        assert answer.reasoning_tokens == budget + 3  # with both markers and a line end
        assert free.thoughts.startswith(answer.thoughts)
    roomy = {**THINKS, "thinking_token_budget": free.reasoning_tokens}
    assert whole(client, SUM, extra_body=roomy) == free


def test_a_template_opens_the_block_and_the_budget_closes_it(always: openai.OpenAI) -> None:
    body = {"thinking_token_budget": 6}
    answer = whole(always, CAPITAL, extra_body=body)
    assert answer.reasoning_tokens <= 6 + 2
    assert answer.content == "The capital of Norway is Oslo."
    assert "think>" not in answer.thoughts
    assert streamed(always, CAPITAL, extra_body=body) == answer
    assert whole(always, CAPITAL, reasoning_effort="none").reasoning_tokens == 2
    cut_off = whole(always, SUM, max_tokens=4)
    assert (cut_off.content, cut_off.finish, cut_off.reasoning_tokens) == ("", "length", 4)
    assert streamed(always, SUM, max_tokens=4) == cut_off


def test_json_follows_the_reasoning(always: openai.OpenAI) -> None:
    asked: Any = {"response_format": FORMAT, "extra_body": {"thinking_token_budget": 30}, "seed": 3}
    answer = whole(always, CAPITAL, **asked, temperature=1.2, max_tokens=300)
    jsonschema.validate(json.loads(answer.content), SCHEMA)
    assert answer.thoughts
    assert streamed(always, CAPITAL, **asked, temperature=1.2, max_tokens=300) == answer


def test_every_choice_reasons_by_itself(always: openai.OpenAI) -> None:
    answer = always.chat.completions.create(
        model="thinker",
        messages=CAPITAL,
        n=4,
        seed=1,
        temperature=2.0,
        top_p=1.0,
        max_tokens=300,
        response_format=FORMAT,
        extra_body={"thinking_budget": 12},
    )
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.message.content or ""), SCHEMA)
    assert len({getattr(choice.message, "reasoning_content", "") for choice in answer.choices}) > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert 4 < (answer.usage.completion_tokens_details.reasoning_tokens or 0) <= 4 * (12 + 2)


def test_stop_strings_do_not_end_the_reasoning(always: openai.OpenAI) -> None:
    free = whole(always, CAPITAL)
    word = free.thoughts.split()[0]
    answer = whole(always, CAPITAL, stop=[word, "Oslo"])
    assert answer.thoughts == free.thoughts
    assert answer.content == free.content.partition("Oslo")[0].partition(word)[0]


def test_a_requested_field_and_a_round_trip(always: openai.OpenAI) -> None:
    shown = always.chat.completions.create(
        model="thinker", messages=CAPITAL, temperature=0, max_tokens=80, extra_body={"reasoning_format": "parsed"}
    )
    message = shown.choices[0].message.model_dump(exclude_none=True)
    assert message["reasoning"]
    assert "reasoning_content" not in message
    history: Any = [*CAPITAL, message, *SUM]
    assert whole(always, history).content


def test_blocks_that_are_taken_away_change_nothing() -> None:
    """Budget and grammar are followed by the tokens alone, so that it does not matter how often they are computed."""
    require_native()
    tokenizer = load_tokenizer(demo_model())
    start, end = tokenizer.token_to_id("<think>"), tokenizer.token_to_id("</think>")
    assert start is not None
    assert end is not None
    closing = (*tokenizer.encode("\n", add_special_tokens=False), end)
    spec = ReasoningSpec("<think>", "</think>", True, (start,), budget=40, closing_token_ids=closing)
    prompt = tokenizer.encode("<|im_start|>user\nA city?<|im_end|>\n<|im_start|>assistant\n<think>\n")
    sampling = SamplingParams(
        n=3,
        seed=5,
        max_tokens=150,
        temperature=1.3,
        reasoning=spec,
        grammar=GrammarSpec(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)),
    )
    requests = [GenerationRequest(str(number), (*prompt, 300 + number), sampling) for number in range(3)]
    texts = []
    for kv_cache_tokens in (4096, 320):
        config = EngineConfig(model=str(demo_model()), max_model_len=256, kv_cache_tokens=kv_cache_tokens)
        core, _ = build_engine(config)
        answers = run(core, requests)
        texts.append({key: answer.data for key, answer in answers.items()})
        assert (core.stats.preemptions_total > 0) == (kv_cache_tokens == 320)
    assert texts[0] == texts[1]
    for text in texts[0].values():
        jsonschema.validate(json.loads(text.partition(b"</think>")[2]), SCHEMA)

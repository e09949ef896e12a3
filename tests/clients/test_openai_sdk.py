"""The OpenAI Python SDK with strict response validation, over a real connection.

Named exceptions, where the SDK's own types are wrong and OpenAI itself sends the same: `finish_reason: null` in chunks
of a legacy completion.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import openai
import pydantic
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from engine.errors import RequestFailedError
from server.app import create_app
from server.config import ServerConfig
from server.text import ModelText
from tests.fakes.engine import FakeEngine, always, script
from tests.fakes.http import serving
from tests.fakes.text import model_text

TEXT = "Hello there, world!"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def url(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    text: ModelText = model_text(tmp_path_factory.mktemp("fake-model"))
    with serving(create_app(engine, text, ServerConfig(api_key=("k",)))) as root:
        yield f"{root}/v1"


@pytest.fixture
def strict(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="k", max_retries=0, _strict_response_validation=True)


@pytest.fixture
def lenient(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="k", max_retries=0)


def test_chat(strict: OpenAI) -> None:
    answer = strict.chat.completions.create(model="fake-model", messages=MESSAGES, logprobs=True, top_logprobs=3)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content is not None
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    assert answer.usage.prompt_tokens_details is not None


def test_chat_stream(strict: OpenAI) -> None:
    chunks = list(
        strict.chat.completions.create(
            model="fake-model",
            messages=MESSAGES,
            stream=True,
            n=2,
            logprobs=True,
            stream_options={"include_usage": True},
        )
    )
    for index in range(2):
        deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(deltas) == TEXT
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_sdks_accumulator_gets_the_whole_answer(strict: OpenAI) -> None:
    with strict.chat.completions.stream(model="fake-model", messages=MESSAGES, seed=1) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    whole = strict.chat.completions.create(model="fake-model", messages=MESSAGES, seed=1)
    assert streamed.choices[0].message.content == whole.choices[0].message.content
    assert streamed.choices[0].finish_reason == whole.choices[0].finish_reason


def test_completions(strict: OpenAI) -> None:
    answer = strict.completions.create(model="fake-model", prompt=["a", "b"], n=2, logprobs=2)
    assert [choice.text for choice in answer.choices] == [TEXT] * 4
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.tokens == ["Hello", " there,", " world!"]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_completions_stream(strict: OpenAI, lenient: OpenAI) -> None:
    chunks = list(lenient.completions.create(model="fake-model", prompt="a", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    with pytest.raises(openai.APIResponseValidationError) as named_exception:
        list(strict.completions.create(model="fake-model", prompt="a", stream=True))
    cause = named_exception.value.__cause__
    assert isinstance(cause, pydantic.ValidationError)
    assert [problem["loc"][-1] for problem in cause.errors()] == ["finish_reason"]


def test_models(strict: OpenAI) -> None:
    assert [model.id for model in strict.models.list()] == ["fake-model"]
    assert strict.models.retrieve("fake-model").owned_by == "quire"


def test_error_classes(strict: OpenAI, url: str, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        strict.chat.completions.create(model="other", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    assert missing.value.request_id is not None
    with pytest.raises(openai.BadRequestError) as bad:
        strict.chat.completions.create(model="fake-model", messages=MESSAGES, temperature=-1)
    assert bad.value.param == "temperature"
    assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as long:
        strict.chat.completions.create(model="fake-model", messages=[{"role": "user", "content": "x" * 999}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=url, api_key="wrong").models.list()
    monkeypatch.setattr(engine, "healthy", False)
    with pytest.raises(openai.InternalServerError):
        strict.chat.completions.create(model="fake-model", messages=MESSAGES)


def test_errors_in_a_stream_raise(strict: OpenAI, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "failure", RequestFailedError("It failed."))
    monkeypatch.setattr(engine, "fail_after", 2)
    stream = strict.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="It failed"):
        list(stream)


def test_unexpected_errors_are_not_repeated(url: str, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "failure", RuntimeError("a bug"))
    before = len(engine.requests)
    with pytest.raises(openai.InternalServerError):
        OpenAI(base_url=url, api_key="k", max_retries=2).chat.completions.create(model="fake-model", messages=MESSAGES)
    assert len(engine.requests) == before + 1


def test_closing_a_stream_aborts(strict: OpenAI, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "answer", always(script("some text", finish=None)))
    stream = strict.chat.completions.create(model="fake-model", messages=MESSAGES, stream=True)
    next(iter(stream))
    request_id = engine.requests[-1].request_id
    assert request_id not in engine.aborted
    stream.close()
    strict.models.list()  # answered, so the server is alive
    deadline = time.monotonic() + 300
    while request_id not in engine.aborted and time.monotonic() < deadline:
        time.sleep(0.005)
    assert request_id in engine.aborted


async def _ask_many(url: str, count: int) -> list[str | None]:
    async with AsyncOpenAI(base_url=url, api_key="k", max_retries=0, _strict_response_validation=True) as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="fake-model", messages=MESSAGES) for _ in range(count))
        )
    return [answer.choices[0].message.content for answer in answers]


def test_many_at_once(url: str) -> None:
    assert asyncio.run(_ask_many(url, 40)) == [TEXT] * 40


def test_embeddings(strict: OpenAI, lenient: OpenAI) -> None:
    """The SDK asks for base64 by itself and decodes it; its own types take no base64 (named exception)."""
    numbers = strict.embeddings.create(model="fake-model", input=["a", "b"], encoding_format="float")
    assert [each.index for each in numbers.data] == [0, 1]
    assert len(numbers.data[0].embedding) == 4
    assert numbers.usage.total_tokens == 4
    decoded = lenient.embeddings.create(model="fake-model", input=["a", "b"])
    assert [each.embedding for each in decoded.data] == [pytest.approx(each.embedding) for each in numbers.data]
    short = lenient.embeddings.create(model="fake-model", input=[5, 6], dimensions=2)
    assert len(short.data[0].embedding) == 2
    with pytest.raises(openai.BadRequestError, match="4 dimensions, not 5"):
        lenient.embeddings.create(model="fake-model", input="a", dimensions=5)

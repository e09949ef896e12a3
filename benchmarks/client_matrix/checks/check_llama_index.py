"""LlamaIndex's `OpenAILike`, for chats and for completions."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from asked import ANSWER, PERSON_REQUEST, QUESTION, STORY, SUM, TOO_LONG, WEATHER_REQUEST
from conftest import Server
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, Field

MESSAGES = [ChatMessage(role="user", content=QUESTION)]


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)


def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"sunny in {city}"


def llm(server: Server, **settings: Any) -> OpenAILike:
    return OpenAILike(
        model=server.model,
        api_base=server.url,
        max_retries=0,
        context_window=2048,
        is_function_calling_model=True,
        **{"api_key": server.key, "temperature": 0, "is_chat_model": True, "timeout": 120, **settings},
    )


def test_plain_chat(server: Server) -> None:
    assert llm(server).chat(MESSAGES).message.content == ANSWER


def test_plain_completion_mode(server: Server) -> None:
    assert llm(server, is_chat_model=False, max_tokens=8).complete("Once upon a time").text


def test_streaming_chat(server: Server) -> None:
    assert [part.message.content for part in llm(server).stream_chat(MESSAGES)][-1] == ANSWER


def test_streaming_completion_mode(server: Server) -> None:
    whole = llm(server, is_chat_model=False, max_tokens=8).complete("Once upon a time").text
    parts = list(llm(server, is_chat_model=False, max_tokens=8).stream_complete("Once upon a time"))
    assert parts[-1].text == whole


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tools_required(server: Server, streamed: bool) -> None:
    tool = FunctionTool.from_defaults(get_weather)
    if streamed:
        *_, answer = llm(server).stream_chat_with_tools([tool], user_msg=WEATHER_REQUEST, tool_required=True)
    else:
        answer = llm(server).chat_with_tools([tool], user_msg=WEATHER_REQUEST, tool_required=True)
    (call,) = llm(server).get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Oslo"})


def test_structured_output(server: Server) -> None:
    chat = llm(server, should_use_structured_outputs=True).as_structured_llm(Person)
    answer = chat.chat([ChatMessage(role="user", content=PERSON_REQUEST)])
    assert isinstance(answer.raw, Person)


def test_logprobs_of_chat(server: Server) -> None:
    answer = llm(server, logprobs=True, top_logprobs=2).chat(MESSAGES)
    assert answer.logprobs is not None
    assert "".join(entries[0].token for entries in answer.logprobs) == ANSWER


def test_errors_have_their_classes(server: Server) -> None:
    with pytest.raises(openai.BadRequestError) as long:
        llm(server).chat([ChatMessage(role="user", content=TOO_LONG)])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        llm(server, api_key="wrong").chat(MESSAGES)


def test_cancel_by_a_timeout_of_the_client(server: Server) -> None:
    endless = llm(server, max_tokens=1500, timeout=1, additional_kwargs={"extra_body": {"ignore_eos": True}})
    with server.one_more_abort(), pytest.raises(openai.APITimeoutError):
        endless.chat([ChatMessage(role="user", content=STORY)])


def test_reasoning_in_the_raw_answer(server: Server) -> None:
    """`OpenAILike` has no place for it, but hands on the SDK's own answer."""
    thinking = llm(server, additional_kwargs={"extra_body": {"enable_thinking": True}})
    answer = thinking.chat([ChatMessage(role="user", content=SUM)])
    assert answer.raw.choices[0].message.model_extra["reasoning_content"]
    assert answer.message.content
    assert "think>" not in answer.message.content


@pytest.mark.skip(reason="embeddings are another package of LlamaIndex, over the SDK, which has its row")
def test_embeddings() -> None:
    """Not applicable."""

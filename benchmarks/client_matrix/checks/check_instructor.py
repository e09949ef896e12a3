"""Instructor: answers as Pydantic models, by each of the ways it knows to get them."""

from __future__ import annotations

import instructor
import openai
import pytest
from asked import PERSON_REQUEST, TOO_LONG
from conftest import Server
from openai import OpenAI
from pydantic import BaseModel, Field

MESSAGES = [{"role": "user", "content": PERSON_REQUEST}]


class Person(BaseModel):
    """A person."""

    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=120)


def client(server: Server, mode: instructor.Mode, key: str | None = None) -> instructor.Instructor:
    sdk = OpenAI(base_url=server.url, api_key=key or server.key, max_retries=0, timeout=500)
    return instructor.from_openai(sdk, mode=mode)


def ask(server: Server, mode: instructor.Mode) -> Person:
    return client(server, mode).chat.completions.create(
        model=server.model, messages=MESSAGES, response_model=Person, max_retries=0, temperature=0
    )


@pytest.mark.skip(reason="every answer of Instructor is a structured one")
def test_plain() -> None: ...


def test_streaming_of_partial_objects(server: Server) -> None:
    parts = list(
        client(server, instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
            model=server.model, messages=MESSAGES, response_model=Person, max_retries=0, temperature=0
        )
    )
    assert parts[-1].name is not None
    assert parts[-1].age is not None


@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT"])
def test_tools(server: Server, mode: str) -> None:
    assert isinstance(ask(server, instructor.Mode[mode]), Person)


def test_tools_streamed(server: Server) -> None:
    parts = list(
        client(server, instructor.Mode.TOOLS).chat.completions.create_partial(
            model=server.model, messages=MESSAGES, response_model=Person, max_retries=0, temperature=0
        )
    )
    assert parts[-1].name is not None


@pytest.mark.parametrize("mode", ["JSON_SCHEMA"])
def test_structured(server: Server, mode: str) -> None:
    assert isinstance(ask(server, instructor.Mode[mode]), Person)


def test_structured_with_completion(server: Server) -> None:
    person, raw = client(server, instructor.Mode.JSON_SCHEMA).chat.completions.create_with_completion(
        model=server.model, messages=MESSAGES, response_model=Person, max_retries=0, temperature=0
    )
    assert isinstance(person, Person)
    assert raw.usage.completion_tokens > 0


@pytest.mark.skip(reason="Instructor hands the SDK's own answer through, which has its row")
def test_logprobs() -> None: ...


def test_errors_come_through(server: Server) -> None:
    long = [{"role": "user", "content": TOO_LONG}]
    with pytest.raises(Exception, match="maximum context length") as raised:
        client(server, instructor.Mode.JSON_SCHEMA).chat.completions.create(
            model=server.model, messages=long, response_model=Person, max_retries=0
        )
    assert isinstance(raised.value, openai.BadRequestError) or "400" in str(raised.value)


@pytest.mark.skip(reason="Instructor leaves connections to the SDK, which has its row")
def test_cancel() -> None: ...


@pytest.mark.skip(reason="Instructor hands the SDK's own answer through, which has its row")
def test_reasoning() -> None:
    """Not applicable."""


@pytest.mark.skip(reason="it makes no embeddings")
def test_embeddings() -> None:
    """Not applicable."""

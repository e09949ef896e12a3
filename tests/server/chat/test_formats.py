"""Chunks of text are put together from ready-made parts; they must be what the whole object would be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import Finish, FinishReason
from server.chat.formats import TEXT, ChatFormat, CompletionFormat, Envelope
from server.chat.pieces import Piece
from server.parsing.base import Content

TEXTS = st.text(min_size=1) | st.sampled_from([TEXT, '"', json.dumps(TEXT)])


def envelope(include_usage: bool, model: str = "some model") -> Envelope:
    return Envelope("id-1", 7, model, "fp_1", include_usage=include_usage)


def chunk(kind: str, choice: dict[str, Any], include_usage: bool) -> dict[str, Any]:
    usage = {"usage": None} if include_usage else {}
    named = {"id": "id-1", "object": kind, "created": 7, "model": "some model", "system_fingerprint": "fp_1"}
    return {**named, "choices": [choice], **usage}


@given(st.lists(st.tuples(st.integers(0, 3), TEXTS), min_size=1), st.booleans())
def test_chat_chunks_say_the_role_once_and_then_the_text(pieces: list[tuple[int, str]], include_usage: bool) -> None:
    answer = ChatFormat(envelope(include_usage), logprobs=False)
    begun: set[int] = set()
    for index, text in pieces:
        deltas: list[dict[str, Any]] = [{"content": text}]
        if index not in begun:
            deltas.insert(0, {"role": "assistant", "content": "", "refusal": None})
            begun.add(index)
        rest = {"logprobs": None, "finish_reason": None}
        expected = [
            chunk("chat.completion.chunk", {"index": index, "delta": each, **rest}, include_usage) for each in deltas
        ]
        assert [json.loads(each) for each in answer.chunks(Piece(index, (Content(text),), (), None))] == expected


@given(st.lists(st.tuples(st.integers(0, 3), TEXTS), min_size=1), st.booleans())
def test_completion_chunks_say_the_text(pieces: list[tuple[int, str]], include_usage: bool) -> None:
    answer = CompletionFormat(envelope(include_usage), logprobs=False)
    for index, text in pieces:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": None}
        shown = [json.loads(each) for each in answer.chunks(Piece(index, (Content(text),), (), None))]
        assert shown == [chunk("text_completion", choice, include_usage)]


@pytest.mark.parametrize("make_format", [ChatFormat, CompletionFormat])
def test_a_model_may_be_called_anything(make_format: type[ChatFormat] | type[CompletionFormat]) -> None:
    answer = make_format(envelope(False, model=TEXT), logprobs=False)
    chunks = [json.loads(each) for each in answer.chunks(Piece(0, (Content("hello"),), (), Finish(FinishReason.STOP)))]
    assert {each["model"] for each in chunks} == {TEXT}
    texts = [each["choices"][0].get("text", each["choices"][0].get("delta", {}).get("content")) for each in chunks]
    assert "hello" in texts

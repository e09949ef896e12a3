"""Clients that join the chunks of a stream as the OpenAI SDK does get the message of the whole answer."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta

from engine.types import Finish, FinishReason, OutputDelta, TokenLogprob
from server.chat.assembler import ChoiceAssembler
from server.chat.call_ids import CallIds
from server.chat.formats import ChatFormat, Envelope
from server.chat.pieces import WholeChoice
from server.generation import Usage
from server.parsing.base import Event, StreamParser, Thought
from server.parsing.hermes import HermesFormat
from server.parsing.table import FORMATS
from server.parsing.tool_format import Tool, ToolFormat
from tests.server.parsing.laws import texts

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é"}}\n</tool_call>'
PIECES = [CALL, "<tool_call>", '{"id": "own", "name": "f", "arguments": {}}', "</tool_call>", "<t>", "</t>", "Hé.", " "]


class Thinking:
    """Takes what stands between `<t>` and `</t>` at the beginning for a thought, one character at a time."""

    def __init__(self, inner: StreamParser) -> None:
        self._inner = inner
        self._text = ""
        self._over = False

    def feed(self, text: str) -> list[Event]:
        return [event for character in text for event in self._character(character)]

    def _character(self, character: str) -> list[Event]:
        if self._over:
            return self._inner.feed(character)
        self._text += character
        if self._text.startswith("<t>") and "</t>" not in self._text:
            return [Thought(character)] if len(self._text) > 3 and character not in "</" else []
        if "<t>".startswith(self._text):
            return []
        self._over = True
        return [] if self._text.startswith("<t>") else self._inner.feed(self._text)

    def finish(self) -> list[Event]:
        held = [] if self._over else self._inner.feed(self._text if len(self._text) < 3 else "")
        return held + self._inner.finish()


def deltas_of(text: str, cuts: list[int], *, logprobs: bool, finish: Finish) -> list[OutputDelta]:
    """One delta per token; tokens may end within a character."""
    data = text.encode()
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    tokens = [data[start:end] for start, end in pairwise(places)]
    entries = [(TokenLogprob(rank, token, -1.0, ()),) if logprobs else None for rank, token in enumerate(tokens)]
    deltas = [OutputDelta("r", 0, (1,), token, entry) for token, entry in zip(tokens, entries, strict=True)]
    return [*deltas, OutputDelta("r", 0, (), b"", () if logprobs else None, 0, finish)]


def answers(deltas: list[OutputDelta], parser: StreamParser, *, logprobs: bool) -> tuple[list[Any], Any]:
    """The chunks of the streamed answer, and the whole one."""
    envelope = Envelope("id", 1, "m", "fp", include_usage=False)
    streamed = ChatFormat(envelope, logprobs=logprobs)
    assembler, whole, chunks = ChoiceAssembler(0, parser, CallIds()), WholeChoice(), []
    for delta in deltas:
        piece = assembler.feed(delta)
        if piece is not None:
            chunks += [json.loads(each)["choices"][0] for each in streamed.chunks(piece)]
            whole.add(piece)
    body = ChatFormat(envelope, logprobs=logprobs).whole([whole], Usage(1))
    return chunks, json.loads(body)["choices"][0]


@given(
    texts(PIECES),
    st.lists(st.integers(0, 200), max_size=20),
    st.booleans(),
    st.sampled_from([FinishReason.STOP, FinishReason.LENGTH]),
)
def test_the_stream_folds_to_the_whole_answer(text: str, cuts: list[int], logprobs: bool, reason: FinishReason) -> None:
    deltas = deltas_of(text, cuts, logprobs=logprobs, finish=Finish(reason))
    chunks, whole = answers(deltas, Thinking(HermesFormat().parser([])), logprobs=logprobs)
    folded: dict[Any, Any] = {}
    for chunk in chunks:
        folded = accumulate_delta(folded, chunk["delta"])
    message = whole["message"]
    calls = [{key: value for key, value in call.items() if key != "index"} for call in folded.get("tool_calls", [])]
    assert calls == message.get("tool_calls", [])
    assert (folded["content"] or "") == (message["content"] or "")
    assert folded.get("reasoning_content") == message.get("reasoning_content")
    assert (folded["role"], folded["refusal"]) == ("assistant", None)
    entries = [entry for chunk in chunks if chunk["logprobs"] for entry in chunk["logprobs"]["content"]]
    assert entries == ((whole["logprobs"] or {}).get("content") or [])
    reasons = [chunk["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [whole["finish_reason"]]
    expected = "tool_calls" if calls and reason is FinishReason.STOP else reason.value
    assert whole["finish_reason"] == expected


@given(texts(PIECES), st.lists(st.integers(0, 200), max_size=20), st.lists(st.integers(0, 200), max_size=20))
def test_how_the_text_is_cut_does_not_matter(text: str, cuts: list[int], others: list[int]) -> None:
    messages = []
    for each in (cuts, others):
        deltas = deltas_of(text, each, logprobs=False, finish=Finish(FinishReason.STOP))
        message = answers(deltas, HermesFormat().parser([]), logprobs=False)[1]["message"]
        for call in message.get("tool_calls", []):
            del call["id"]
        messages.append(message)
    assert messages[0] == messages[1]


parts = st.lists(st.sampled_from(["Hello", " <", "é", "\n", CALL, CALL + "\n"]), max_size=6)


@given(parts, st.lists(st.integers(0, 400), max_size=30))
def test_log_probabilities_are_those_of_the_tokens_that_made_content(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    deltas = deltas_of(text, cuts, logprobs=True, finish=Finish(FinishReason.STOP))
    _, whole = answers(deltas, HermesFormat().parser([]), logprobs=True)
    tokens = [bytes(entry["bytes"]) for entry in whole["logprobs"]["content"]]
    content = (whole["message"]["content"] or "").encode()
    spans = content_spans(text)
    assert b"".join(text[start:end].encode() for start, end in spans) == content
    expected, place = [], 0
    for delta in deltas[:-1]:
        begin, place = place, place + len(delta.data)
        if any(begin < len(text[:end].encode()) and place > len(text[:start].encode()) for start, end in spans):
            expected.append(delta.data)
    assert [each for each in tokens if each] == [each for each in expected if each]


def content_spans(text: str) -> list[tuple[int, int]]:
    """Where content stands: what is not a call, nor blanks alone beside one."""
    places, place = [], 0
    while place <= len(text):
        call = text.find(CALL, place)
        end = len(text) if call < 0 else call
        if text[place:end].strip() or CALL not in text:
            places.append((place, end))
        place = len(text) + 1 if call < 0 else call + len(CALL)
    return places


def test_call_deltas_have_id_type_and_name_once() -> None:
    text = f"Two.{CALL}{CALL}"
    deltas = deltas_of(text, list(range(0, 200, 7)), logprobs=False, finish=Finish(FinishReason.STOP))
    chunks, _ = answers(deltas, HermesFormat().parser([]), logprobs=False)
    calls = [chunk["delta"]["tool_calls"] for chunk in chunks if "tool_calls" in chunk["delta"]]
    assert all(len(each) == 1 for each in calls)
    assert [each[0]["index"] for each in calls] == sorted(each[0]["index"] for each in calls)
    for index in (0, 1):
        first, *rest = [each[0] for each in calls if each[0]["index"] == index]
        assert set(first) == {"index", "id", "type", "function"}
        assert first["function"] == {"name": "add", "arguments": ""}
        assert len(rest) > 1
        assert all(set(each) == {"index", "function"} and set(each["function"]) == {"arguments"} for each in rest)


def test_content_of_an_answer_that_only_calls_is_null() -> None:
    deltas = deltas_of(CALL, [], logprobs=False, finish=Finish(FinishReason.STOP))
    chunks, whole = answers(deltas, HermesFormat().parser([]), logprobs=False)
    assert chunks[0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    assert whole["message"]["content"] is None
    assert answers([deltas[-1]], HermesFormat().parser([]), logprobs=False)[1]["message"]["content"] == ""


def test_events_of_one_delta_become_as_few_chunks_as_there_are_kinds() -> None:
    deltas = deltas_of(f"Two words.{CALL}", [], logprobs=False, finish=Finish(FinishReason.STOP))
    chunks, _ = answers(deltas, HermesFormat().parser([]), logprobs=False)
    assert len(chunks) == 5  # role, content, call, arguments, finish


MARKERS = [
    *("[f(a=1)]", "[TOOL_CALLS]", "[ARGS]", "<|tool_call|>", "<|python_tag|>", "<function=f>", "<parameter=a>"),
    *("</parameter>", "</function>", "<arg_key>", "<|channel|>final<|message|>"),
    '{"name": "f", "parameters": {"a": "é"}}',
]


@pytest.mark.parametrize("tool_format", FORMATS, ids=lambda each: each.name)
@settings(max_examples=50)
@given(text=texts([*PIECES, *MARKERS]), cuts=st.lists(st.integers(0, 200), max_size=20))
def test_no_content_comes_without_its_log_probabilities(tool_format: ToolFormat, text: str, cuts: list[int]) -> None:
    deltas = deltas_of(text, cuts, logprobs=True, finish=Finish(FinishReason.STOP))
    _, whole = answers(deltas, tool_format.parser([Tool("f", None)]), logprobs=True)
    given = [bytes(entry["bytes"]) for entry in whole["logprobs"]["content"]]
    tokens = iter(delta.data for delta in deltas[:-1])
    assert all(token in tokens for token in given)  # each of them once, and in their order
    data = iter(b"".join(given))
    assert all(byte in data for byte in (whole["message"]["content"] or "").encode())
